# SPDX-License-Identifier: Apache-2.0
"""Oneself: sign in and out, who one is, one's password, the one-time link, one's tokens."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from expunge.web import accounts, links, passwords, sessions, tokens
from expunge.web.api.shapes import CHANGES, READS, Taken, Text
from expunge.web.problems import HttpProblem, responses
from expunge.web.roles import PERMISSIONS, Role
from expunge.web.security import (
    Identity,
    address_of,
    allowed,
    drop_cookie,
    identity,
    set_cookie,
    settings_of,
    workspace_of,
)

router = APIRouter(tags=["people"])
Own = Annotated[Identity, Depends(allowed("account.own"))]
Password = Annotated[str, Field(max_length=passwords.MOST)]
Permission = Annotated[str, Field(json_schema_extra={"enum": list(PERMISSIONS)})]


class SignIn(Taken):
    """Name and password."""

    name: Text
    password: Password


class UseLink(Taken):
    """A one-time link's secret, and the password to choose."""

    secret: Annotated[str, Field(max_length=200)]
    password: Password
    name: Text | None = Field(default=None, description="Of the first admin; else the link says whose it is.")


class ChangePassword(Taken):
    """The password until now, and the new one."""

    present: Password
    new: Password


class Me(BaseModel):
    """Who asks."""

    name: str
    role: Role
    via: str = Field(description="cookie or token")
    permissions: list[str]
    csrf: str | None = Field(description="For X-CSRF-Token; null with a token, which needs none.")
    four_eyes: bool = Field(description="Whoever files a request cannot approve it.")


class NewToken(Taken):
    """A token to be made."""

    name: Text = Field(description="What it is for.", examples=["privacy portal"])
    scopes: list[Permission] = Field(min_length=1, max_length=50, examples=[["requests.file", "desk.view"]])
    days: int = Field(default=90, ge=1, le=tokens.MOST_DAYS, description="After that it ends.")


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
    """A new token; its secret cannot be had again."""

    secret: str


@router.post(
    "/session", response_model=Me, status_code=201, responses=responses(400, 403, 413, 422, 429, 503)
)
def sign_in(request: Request, response: Response, body: SignIn) -> dict[str, Any]:
    """Sign a browser in: the answer sets a cookie, and tells the token against forged requests."""
    workspace, settings = workspace_of(request), settings_of(request)
    signed = sessions.sign_in(workspace, settings, body.name, body.password, address_of(request))
    return _signed_in(request, response, signed)


@router.delete("/session", status_code=204, responses=responses(401, 403))
def sign_out(request: Request, response: Response, who: Annotated[Identity, Depends(identity)]) -> None:
    """Sign a browser out."""
    if who.session is not None:
        sessions.end(workspace_of(request), who.session)
        drop_cookie(response, settings_of(request))


@router.post(
    "/link", response_model=Me, status_code=201, responses=responses(400, 403, 404, 409, 413, 422, 503)
)
def use_link(request: Request, response: Response, body: UseLink) -> dict[str, Any]:
    """Choose a password by a one-time link, and be signed in."""
    workspace = workspace_of(request)
    account = links.use(workspace, body.secret, body.password, body.name)
    return _signed_in(request, response, sessions.begin(workspace, settings_of(request), account))


@router.get("/me", response_model=Me, responses=responses(401))
def me(request: Request, who: Annotated[Identity, Depends(identity)]) -> dict[str, Any]:
    """Say who asks, and what that one may."""
    return _me(request, who)


@router.post("/me/password", status_code=204, responses={**CHANGES, **responses(429)})
def change_password(request: Request, body: ChangePassword, who: Own) -> None:
    """Choose another password; all other sessions end."""
    _in_person(who)
    workspace = workspace_of(request)
    accounts.check_password(workspace, who.name, body.present, address_of(request))
    accounts.change_password(workspace, who.account_id, body.new, keep=who.session)


@router.get("/tokens", response_model=list[TokenShown], responses=READS)
def list_tokens(request: Request, who: Own) -> Any:
    """List one's own tokens; an admin sees everybody's."""
    everybody = who.may("accounts.manage")
    found = tokens.listing(workspace_of(request), None if everybody else who.account_id)
    return [asdict(token) for token in found]


@router.post("/tokens", response_model=TokenMade, status_code=201, responses=CHANGES)
def make_token(request: Request, body: NewToken, who: Own) -> Any:
    """Make a token with some of one's permissions; its secret is told in this answer alone."""
    _in_person(who)
    token, secret = tokens.make(
        workspace_of(request), who.account_id, who.role, body.name, body.scopes, body.days
    )
    return {**asdict(token), "secret": secret}


@router.delete("/tokens/{token_id}", status_code=204, responses=CHANGES)
def revoke_token(
    request: Request,
    token_id: Annotated[str, Path(pattern=r"^t-[0-9a-f]{16}$", examples=["t-0c1d2e3f4a5b6978"])],
    who: Own,
) -> None:
    """End a token now: one's own, or as an admin anybody's."""
    everybody = who.may("accounts.manage")
    tokens.revoke(workspace_of(request), token_id, None if everybody else who.account_id)


def _in_person(who: Identity) -> None:
    """A token makes no tokens, and changes no password: it could outlive its own end."""
    if who.via != "cookie":
        raise HttpProblem(403, "That takes a signed-in person.", "A token cannot do it.", "Use the pages.")


def _signed_in(request: Request, response: Response, signed: sessions.SignedIn) -> dict[str, Any]:
    set_cookie(response, settings_of(request), signed)
    account = signed.account
    who = Identity(account.id, account.name, account.role, "cookie", None, signed.csrf)
    request.state.identity = who  # for the trail
    return _me(request, who)


def _me(request: Request, who: Identity) -> dict[str, Any]:
    return {
        "name": who.name,
        "role": who.role,
        "via": who.via,
        "permissions": who.permissions,
        "csrf": who.csrf,
        "four_eyes": workspace_of(request).settings.approval.four_eyes,
    }
