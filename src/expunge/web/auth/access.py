# SPDX-License-Identifier: Apache-2.0
"""Authentication and authorisation of requests: cookie or API token, permissions, CSRF protection.

A forged request from another page carries the session's cookie but not its CSRF token, which must come in the
header ``X-CSRF-Token`` or the form field ``csrf``. Browsers never send API tokens on their own, so requests
with an API token need no CSRF token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from expunge.web.auth import sessions, tokens
from expunge.web.auth.roles import PERMISSIONS, Role, may
from expunge.web.problems import HttpProblem, not_allowed, not_signed_in

if TYPE_CHECKING:
    from starlette.responses import Response

    from expunge.web.auth.sessions import SignedIn
    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
COOKIE, SECURE_COOKIE = "expunge_session", "__Host-expunge_session"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Identity:
    """The authenticated user of a request.

    Attributes:
        account_id: Id of the account.
        name: Name of the account, as recorded in events and the access log.
        role: Role of the account.
        via: ``cookie`` or ``token``.
        scopes: Permissions of the API token; None for all permissions of the role.
        csrf: CSRF token of the session; None with an API token.
        session: Digest of the session's secret; None with an API token.
    """

    account_id: int
    name: str
    role: Role
    via: str
    scopes: frozenset[str] | None = None
    csrf: str | None = None
    session: str | None = None

    def may(self, permission: str) -> bool:
        """Return whether the user has a permission."""
        return may(self.role, permission) and (self.scopes is None or permission in self.scopes)

    @property
    def permissions(self) -> list[str]:
        """All permissions of the user, in the order of the table."""
        return [permission for permission in PERMISSIONS if self.may(permission)]


def workspace_of(request: Request) -> Workspace:
    """Return the workspace that is served."""
    workspace: Workspace = request.app.state.workspace
    return workspace


def settings_of(request: Request) -> ServerSettings:
    """Return the server's settings."""
    settings: ServerSettings = request.app.state.settings
    return settings


def known_identity(request: Request) -> Identity | None:
    """Return the user of a request, or None if nobody is signed in."""
    if hasattr(request.state, "identity"):
        cached: Identity | None = request.state.identity
        return cached
    request.state.identity = found = _find(request)
    return found


async def identity(request: Request) -> Identity:
    """Return the user of a request. With a cookie, requests that change data must carry the CSRF token.

    Raises:
        HttpProblem: 401 if nobody is signed in, 403 if the CSRF token is missing or wrong.
    """
    found = await run_in_threadpool(known_identity, request)
    if found is None:
        raise not_signed_in()
    if found.csrf is not None and request.method not in SAFE:
        sent = request.headers.get(CSRF_HEADER) or await _form_field(request)
        if not sessions.same(sent, found.csrf):
            raise HttpProblem(
                403,
                "This request does not come from the desk's own pages.",
                f"With a cookie, {CSRF_HEADER} must have the value that `me` returns.",
                "Open the page again, then repeat it.",
            )
    return found


def allowed(permission: str) -> Callable[..., Awaitable[Identity]]:
    """Return a FastAPI dependency that gives the user of a request if the user has a permission.

    Raises:
        KeyError: If the table has no such permission.
    """
    _ = PERMISSIONS[permission]

    async def check(request: Request, user: Identity = Depends(identity)) -> Identity:  # noqa: B008 (as FastAPI documents it)
        if not user.may(permission):
            raise not_allowed(permission)
        request.state.permission = permission
        return user

    check.permission = permission  # type: ignore[attr-defined]  # read by the OpenAPI document and by tests
    return check


def still_allowed(request: Request) -> bool:
    """Return whether the user may still receive a response, for slow responses and streams.

    The result is False once the token or session has ended, the account was closed, or its role or scopes no
    longer include the route's permission. This check does not count as use of the session.
    """
    before: Identity | None = getattr(request.state, "identity", None)
    if before is None:
        return True  # the route needs no user
    now = _find(request, record=False)
    if now is None or (now.account_id, now.via) != (before.account_id, before.via):
        return False
    permission: str | None = getattr(request.state, "permission", None)
    return permission is None or now.may(permission)


def address_of(request: Request) -> str:
    """Return the client's address, for counting failed sign-ins."""
    return request.client.host if request.client else "unknown"


def set_cookie(response: Response, settings: ServerSettings, signed: SignedIn) -> None:
    """Set the session cookie in a response."""
    response.set_cookie(
        _cookie_name(settings),
        signed.secret,
        max_age=int(settings.session_lifetime.total_seconds()),
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="strict",
    )


def drop_cookie(response: Response, settings: ServerSettings) -> None:
    """Delete the session cookie in a response."""
    response.delete_cookie(
        _cookie_name(settings), path="/", secure=settings.secure_cookies, httponly=True, samesite="strict"
    )


def _find(request: Request, *, record: bool = True) -> Identity | None:
    workspace, settings = workspace_of(request), settings_of(request)
    sent = request.headers.get("Authorization")
    if sent is not None:  # an invalid token is an error, even with a valid cookie
        scheme, _, secret = sent.partition(" ")
        bearer = tokens.find_token(workspace, secret.strip()) if scheme.lower() == "bearer" else None
        if bearer is None:
            return None
        return Identity(bearer.account_id, bearer.name, bearer.role, "token", bearer.scopes)
    cookie = request.cookies.get(_cookie_name(settings))
    known = sessions.find_session(workspace, settings, cookie) if cookie else None
    if cookie is None or known is None:
        return None
    if known.stale and record:
        request.app.state.trail.used(known.digest)
    csrf = sessions.csrf_of(cookie)
    return Identity(known.account_id, known.name, known.role, "cookie", None, csrf, known.digest)


def _cookie_name(settings: ServerSettings) -> str:
    """Return the cookie's name. Over TLS, the prefix ``__Host-`` binds it to this host."""
    return SECURE_COOKIE if settings.secure_cookies else COOKIE


async def _form_field(request: Request) -> str:
    if not request.headers.get("content-type", "").lower().startswith(FORMS):
        return ""
    form = await request.form()
    value = form.get(CSRF_FIELD)
    return value if isinstance(value, str) else ""
