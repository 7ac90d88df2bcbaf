# SPDX-License-Identifier: Apache-2.0
"""Routes for the user's own account: sign in and out, password, one-time link, tokens."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from expunge.web.api.schemas import CHANGES, READS, Taken, Text
from expunge.web.auth import accounts, links, passwords, sessions, tokens
from expunge.web.auth.access import (
    Identity,
    address_of,
    allowed,
    drop_cookie,
    identity,
    set_cookie,
    settings_of,
    workspace_of,
)
from expunge.web.auth.roles import PERMISSIONS, Role
from expunge.web.problems import HttpProblem, responses

router = APIRouter(tags=["people"])
Own = Annotated[Identity, Depends(allowed("account.own"))]
Password = Annotated[str, Field(max_length=passwords.MOST)]
Permission = Annotated[str, Field(json_schema_extra={"enum": list(PERMISSIONS)})]


class SignIn(Taken):
    """Name and password of an account."""

    name: Text
    password: Password


class UseLink(Taken):
    """A one-time link's secret, and the password to choose."""

    secret: Annotated[str, Field(max_length=200)]
    password: Password
    name: Text | None = Field(default=None, description="Name of the first admin; other links have a name.")


class ChangePassword(Taken):
    """The present password and the new one."""

    present: Password
    new: Password


class Me(BaseModel):
    """The user of the request."""

    name: str
    role: Role
    via: str = Field(description="cookie or token")
    permissions: list[str]
    csrf: str | None = Field(description="Value for X-CSRF-Token; null with an API token, which needs none.")
    four_eyes: bool = Field(
        description="Whether requests must be approved by another person than filed them."
    )


class NewToken(Taken):
    """A token to create."""

    name: Text = Field(description="Its purpose.", examples=["privacy portal"])
    scopes: list[Permission] = Field(min_length=1, max_length=50, examples=[["requests.file", "desk.view"]])
    days: int = Field(default=90, ge=1, le=tokens.MOST_DAYS, description="Lifetime in days.")


class TokenShown(BaseModel):
    """A token, without its secret."""

    id: str
    account: str
    name: str
    scopes: list[str]
    created: str
    expires: str
    revoked: str | None


class TokenMade(TokenShown):
    """A new token with its secret, which cannot be shown again."""

    secret: str


@router.post(
    "/session", response_model=Me, status_code=201, responses=responses(400, 403, 413, 422, 429, 503)
)
def sign_in(request: Request, response: Response, body: SignIn) -> dict[str, Any]:
    """Sign a browser in. The response sets a cookie and holds the CSRF token."""
    workspace, settings = workspace_of(request), settings_of(request)
    signed = sessions.sign_in(workspace, settings, body.name, body.password, address_of(request))
    return _signed_in(request, response, signed)


@router.delete("/session", status_code=204, responses=responses(401, 403))
def sign_out(request: Request, response: Response, user: Annotated[Identity, Depends(identity)]) -> None:
    """Sign a browser out."""
    if user.session is not None:
        sessions.end(workspace_of(request), user.session)
        drop_cookie(response, settings_of(request))


@router.post(
    "/link", response_model=Me, status_code=201, responses=responses(400, 403, 404, 409, 413, 422, 503)
)
def use_link(request: Request, response: Response, body: UseLink) -> dict[str, Any]:
    """Choose a password with a one-time link, and sign in."""
    workspace = workspace_of(request)
    account = links.use_link(workspace, body.secret, body.password, body.name)
    return _signed_in(request, response, sessions.begin(workspace, settings_of(request), account))


@router.get("/me", response_model=Me, responses=responses(401))
def me(request: Request, user: Annotated[Identity, Depends(identity)]) -> dict[str, Any]:
    """Show the user's name, role and permissions."""
    return _me(request, user)


@router.post("/me/password", status_code=204, responses={**CHANGES, **responses(429)})
def change_password(request: Request, body: ChangePassword, user: Own) -> None:
    """Change the user's password. All other sessions end."""
    _require_session(user)
    workspace = workspace_of(request)
    accounts.check_password(workspace, user.name, body.present, address_of(request))
    accounts.change_password(workspace, user.account_id, body.new, keep=user.session)


@router.get("/tokens", response_model=list[TokenShown], responses=READS)
def list_tokens(request: Request, user: Own) -> Any:
    """List the user's own tokens; for admins, all tokens."""
    is_admin = user.may("accounts.manage")
    found = tokens.listing(workspace_of(request), None if is_admin else user.account_id)
    return [asdict(token) for token in found]


@router.post("/tokens", response_model=TokenMade, status_code=201, responses=CHANGES)
def make_token(request: Request, body: NewToken, user: Own) -> Any:
    """Create a token with a subset of the user's permissions. Its secret is shown only in this response."""
    _require_session(user)
    token, secret = tokens.make(
        workspace_of(request), user.account_id, user.role, body.name, body.scopes, body.days
    )
    return {**asdict(token), "secret": secret}


@router.delete("/tokens/{token_id}", status_code=204, responses=CHANGES)
def revoke_token(
    request: Request,
    token_id: Annotated[str, Path(pattern=r"^t-[0-9a-f]{16}$", examples=["t-0c1d2e3f4a5b6978"])],
    user: Own,
) -> None:
    """Revoke one of the user's tokens; as an admin, any token."""
    is_admin = user.may("accounts.manage")
    tokens.revoke(workspace_of(request), token_id, None if is_admin else user.account_id)


def _require_session(user: Identity) -> None:
    """Refuse API tokens: a token that makes tokens or changes the password could outlive its expiry."""
    if user.via != "cookie":
        raise HttpProblem(
            403, "This requires a signed-in person.", "It is not possible with a token.", "Use the pages."
        )


def _signed_in(request: Request, response: Response, signed: sessions.SignedIn) -> dict[str, Any]:
    set_cookie(response, settings_of(request), signed)
    account = signed.account
    user = Identity(account.id, account.name, account.role, "cookie", None, signed.csrf)
    request.state.identity = user  # for the access log
    return _me(request, user)


def _me(request: Request, user: Identity) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role,
        "via": user.via,
        "permissions": user.permissions,
        "csrf": user.csrf,
        "four_eyes": workspace_of(request).settings.approval.four_eyes,
    }
