# SPDX-License-Identifier: Apache-2.0
"""Pages for the user's own account and tokens, and for admins: all accounts and the access log."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.responses import Response

from expunge.errors import ExpungeError, InputError
from expunge.web.auth import accounts, links, passwords, tokens
from expunge.web.auth.access import Identity, address_of, allowed, settings_of, workspace_of
from expunge.web.auth.roles import Role
from expunge.web.pages.view import go, page, problem_context
from expunge.web.queries.pages import MOST_ROWS

router = APIRouter()
Own = Annotated[Identity, Depends(allowed("account.own"))]
Admin = Annotated[Identity, Depends(allowed("accounts.manage"))]
Text = Annotated[str, Form()]
PER_PAGE = 100
Before = Annotated[int | None, Query(ge=0, le=MOST_ROWS)]
ROLES = {
    Role.VIEWER: "sees states, dates, counts and evidence; no ids, no pictures",
    Role.OFFICER: "also files and decides requests, and sees their ids and pictures",
    Role.ENGINEER: "also runs erasures and audits",
    Role.ADMIN: "also manages the accounts, and sees the access log",
}


@router.get("/account")
def account(request: Request, me: Own) -> Response:
    """Show the user's own account."""
    return _account(request, me)


@router.post("/account/password")
def change_password(
    request: Request, me: Own, old: Text = "", password: Text = "", again: Text = ""
) -> Response:
    """Change the user's password."""
    workspace = workspace_of(request)
    try:
        accounts.check_password(workspace, me.name, old, address_of(request))
        if password != again:
            raise InputError("The two passwords differ.", "", "Type the same one twice.")
        accounts.change_password(workspace, me.account_id, password, me.session)
    except ExpungeError as error:
        return _account(request, me, error)
    return go("/account", "password")


@router.post("/account/tokens")
async def make_token(request: Request, me: Own) -> Response:
    """Create a token. Its secret is shown only on the returned page."""
    from starlette.concurrency import run_in_threadpool

    form = await request.form()
    name, days = str(form.get("name", "")), str(form.get("days", ""))
    scopes = [str(scope) for scope in form.getlist("scopes")]

    def answer() -> Response:
        try:
            if not (days.isdecimal() and len(days) < 4):
                raise InputError(
                    "A token must expire.", "The lifetime is a number of days.", "Give 1 to 366."
                )
            _, secret = tokens.make(workspace_of(request), me.account_id, me.role, name, scopes, int(days))
        except ExpungeError as error:
            return _account(request, me, error)
        return _account(request, me, secret=secret)

    return await run_in_threadpool(answer)


@router.post("/account/tokens/{token}/revoke")
def revoke(request: Request, token: str, me: Own) -> Response:
    """Revoke one of the user's tokens; as an admin, any token."""
    account_id = None if me.may("accounts.manage") else me.account_id
    tokens.revoke(workspace_of(request), token, account_id)
    return go("/account", "revoked")


@router.get("/accounts")
def show_accounts(request: Request, me: Admin) -> Response:
    """Show all accounts."""
    return _accounts(request)


@router.post("/accounts")
def add(request: Request, me: Admin, name: Text = "", role: Text = "") -> Response:
    """Create an account with a one-time link for its owner."""
    workspace = workspace_of(request)
    try:
        created = accounts.create(workspace, name, _role(role))
    except ExpungeError as error:
        return _accounts(request, error)
    secret = links.invite(workspace, settings_of(request), created.name)
    return _accounts(request, link=(created.name, f"{settings_of(request).address}/link/{secret}"))


@router.post("/accounts/{name}/link")
def invite(request: Request, name: str, me: Admin) -> Response:
    """Create a new one-time link for an account whose password was lost."""
    secret = links.invite(workspace_of(request), settings_of(request), name)
    return _accounts(request, link=(name, f"{settings_of(request).address}/link/{secret}"))


@router.post("/accounts/{name}")
def change(request: Request, name: str, me: Admin, role: Text = "", disabled: Text = "") -> Response:
    """Change an account's role, or close or reopen it."""
    try:
        accounts.change(
            workspace_of(request),
            name,
            role=_role(role) if role else None,
            disabled={"yes": True, "no": False}.get(disabled),
        )
    except ExpungeError as error:
        return _accounts(request, error)
    return go("/accounts", "changed")


@router.get("/trail")
def trail(
    request: Request, me: Annotated[Identity, Depends(allowed("trail.view"))], before: Before = None
) -> Response:
    """Show the access log, newest entry first."""
    items, following = request.app.state.trail.page(PER_PAGE, before)
    older = "/trail?" + urlencode({"before": following}) if following else None
    return page(request, "trail", active="accounts", items=items, older=older, before=before)


def _account(
    request: Request, me: Identity, error: ExpungeError | None = None, secret: str | None = None
) -> Response:
    workspace = workspace_of(request)
    status, problem = problem_context(workspace, error) if error else (200, None)
    return page(
        request,
        "account",
        status,
        active="account",
        tokens=tokens.listing(workspace, me.account_id),
        permissions=me.permissions,
        secret=secret,
        least=passwords.LEAST,
        role_words=ROLES[me.role],
        problem=problem,
    )


def _accounts(
    request: Request, error: ExpungeError | None = None, link: tuple[str, str] | None = None
) -> Response:
    workspace, settings = workspace_of(request), settings_of(request)
    status, problem = problem_context(workspace, error) if error else (200, None)
    return page(
        request,
        "accounts",
        status,
        active="accounts",
        accounts=accounts.listing(workspace),
        tokens=[t for t in tokens.listing(workspace) if not t.revoked],
        roles={str(role): text for role, text in ROLES.items()},
        link=link,
        hours=int(settings.invitation_lifetime.total_seconds() // 3600),
        problem=problem,
    )


def _role(name: str) -> Role:
    if name not in list(Role):
        raise InputError("There is no such role.", f"Known: {', '.join(Role)}.", "Choose one.")
    return Role(name)
