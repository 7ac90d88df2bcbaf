# SPDX-License-Identifier: Apache-2.0
"""Routes for admins: accounts and the access log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from expunge.web.api.schemas import CHANGES, READS, Cursor, Limit, Paged, Taken
from expunge.web.auth import accounts, links
from expunge.web.auth.access import Identity, allowed, settings_of, workspace_of
from expunge.web.auth.roles import Role
from expunge.web.queries import pages

router = APIRouter(tags=["accounts"])
Admin = Annotated[Identity, Depends(allowed("accounts.manage"))]
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Path(pattern=NAME, examples=["ann"])]


class NewAccount(Taken):
    """An account to create. Its owner chooses the password with a one-time link."""

    name: Annotated[str, Field(pattern=NAME, examples=["ann"])]
    role: Role


class Change(Taken):
    """A change of an account: its role, or closing or reopening it."""

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
    """An account and its one-time link, which is shown only in this response."""

    link: str


class TrailEntry(BaseModel):
    """An entry of the access log."""

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
    """Create an account. Pass its one-time link on to its owner over a channel that you trust."""
    account = accounts.create(workspace_of(request), body.name, body.role)
    return _invited(request, account)


@router.patch("/accounts/{name}", response_model=AccountShown, responses=CHANGES)
def change_account(request: Request, name: Name, body: Change, _: Admin) -> Any:
    """Change an account's role, close it (its sessions and tokens end), or reopen it."""
    return asdict(accounts.change(workspace_of(request), name, role=body.role, disabled=body.disabled))


@router.post("/accounts/{name}/link", response_model=Invited, status_code=201, responses=CHANGES)
def invite_again(request: Request, name: Name, _: Admin) -> Any:
    """Create a new one-time link for an account, if its link expired or its password was forgotten."""
    return _invited(request, accounts.find(workspace_of(request), name))


@router.get("/trail", response_model=Paged[TrailEntry], responses=READS)
def trail(
    request: Request,
    _: Annotated[Identity, Depends(allowed("trail.view"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Any:
    """List the access log, newest first. It names no data subject."""
    before = pages.decode(cursor, int)[0] if cursor is not None else None
    items, following = request.app.state.trail.page(limit, before)
    return {"items": items, "next": None if following is None else pages.encode([following]), "total": None}


def _invited(request: Request, account: accounts.Account) -> dict[str, Any]:
    settings = settings_of(request)
    secret = links.invite(workspace_of(request), settings, account.name)
    return {**asdict(account), "link": f"{settings.address}/link/{secret}"}
