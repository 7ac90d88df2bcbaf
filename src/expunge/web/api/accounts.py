# SPDX-License-Identifier: Apache-2.0
"""Accounts and the trail, for admins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from expunge.desk import pages
from expunge.web import accounts, links
from expunge.web.api.shapes import CHANGES, READS, Cursor, Limit, Paged, Taken
from expunge.web.roles import Role
from expunge.web.security import Identity, allowed, settings_of, workspace_of

router = APIRouter(tags=["accounts"])
Admin = Annotated[Identity, Depends(allowed("accounts.manage"))]
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Path(pattern=NAME, examples=["ann"])]


class NewAccount(Taken):
    """An account to be made; its owner chooses the password by a one-time link."""

    name: Annotated[str, Field(pattern=NAME, examples=["ann"])]
    role: Role


class Change(Taken):
    """Another role, or closed or open again."""

    role: Role | None = None
    disabled: bool | None = None


class AccountShown(BaseModel):
    """An account."""

    name: str
    role: Role
    disabled: bool
    waits: bool = Field(description="No password was chosen yet.")
    created: str


class Invited(AccountShown):
    """An account and its one-time link, which is told in this answer alone."""

    link: str


class TrailEntry(BaseModel):
    """Who saw or did what."""

    at: str
    account: str
    via: str
    method: str
    route: str
    object: str | None
    status: int


@router.get("/accounts", response_model=list[AccountShown], responses=READS)
def list_accounts(request: Request, _: Admin) -> Any:
    """List all accounts."""
    return [asdict(account) for account in accounts.listing(workspace_of(request))]


@router.post("/accounts", response_model=Invited, status_code=201, responses=CHANGES)
def make_account(request: Request, body: NewAccount, _: Admin) -> Any:
    """Make an account; pass its one-time link on to its owner, over a way that you trust."""
    account = accounts.create(workspace_of(request), body.name, body.role)
    return _invited(request, account)


@router.patch("/accounts/{name}", response_model=AccountShown, responses=CHANGES)
def change_account(request: Request, name: Name, body: Change, _: Admin) -> Any:
    """Give an account another role, close it (its sessions and tokens end), or open it again."""
    return asdict(accounts.change(workspace_of(request), name, role=body.role, disabled=body.disabled))


@router.post("/accounts/{name}/link", response_model=Invited, status_code=201, responses=CHANGES)
def invite_again(request: Request, name: Name, _: Admin) -> Any:
    """Make a new one-time link for an account: its owner was too late, or forgot the password."""
    return _invited(request, accounts.find(workspace_of(request), name))


@router.get("/trail", response_model=Paged[TrailEntry], responses=READS)
def trail(
    request: Request,
    _: Annotated[Identity, Depends(allowed("trail.view"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Any:
    """Show who saw and did what, the newest first; nobody whom a request concerns is in it."""
    before = pages.decode(cursor, int)[0] if cursor is not None else None
    items, following = request.app.state.trail.page(limit, before)
    return {"items": items, "next": None if following is None else pages.encode([following]), "total": None}


def _invited(request: Request, account: accounts.Account) -> dict[str, Any]:
    settings = settings_of(request)
    secret = links.invite(workspace_of(request), settings, account.name)
    return {**asdict(account), "link": f"{settings.address}/link/{secret}"}
