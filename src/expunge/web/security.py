# SPDX-License-Identifier: Apache-2.0
"""Who asks, and whether that one may: cookie or token, permission, and the proof against forged requests.

A request that a foreign page makes a browser send (CSRF) carries the cookie but not the session's token,
which must come in the header ``X-CSRF-Token`` or the form field ``csrf``. A token of a program is sent by no
browser on its own, so it needs no such proof.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from expunge.web import sessions, tokens
from expunge.web.problems import HttpProblem, not_allowed, not_signed_in
from expunge.web.roles import PERMISSIONS, Role, may

if TYPE_CHECKING:
    from starlette.responses import Response

    from expunge.web.sessions import SignedIn
    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
COOKIE, SECURE_COOKIE = "expunge_session", "__Host-expunge_session"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Identity:
    """Who asks.

    Attributes:
        account_id: Of the account.
        name: Its name, as it is recorded with what is done.
        role: Its role.
        via: ``cookie`` or ``token``.
        scopes: A token's permissions; None: all of the role's.
        csrf: The session's proof, for forms; None with a token.
        session: Digest of the session's secret; None with a token.
    """

    account_id: int
    name: str
    role: Role
    via: str
    scopes: frozenset[str] | None = None
    csrf: str | None = None
    session: str | None = None

    def may(self, permission: str) -> bool:
        """Whether this one has a permission."""
        return may(self.role, permission) and (self.scopes is None or permission in self.scopes)

    @property
    def permissions(self) -> list[str]:
        """All permissions, in the order of the table."""
        return [permission for permission in PERMISSIONS if self.may(permission)]


def workspace_of(request: Request) -> Workspace:
    """The workspace that is served."""
    found: Workspace = request.app.state.workspace
    return found


def settings_of(request: Request) -> ServerSettings:
    """What the server was started with."""
    found: ServerSettings = request.app.state.settings
    return found


def known_identity(request: Request) -> Identity | None:
    """Return who asks, or None: for pages that look the same to everybody."""
    if hasattr(request.state, "identity"):
        kept: Identity | None = request.state.identity
        return kept
    request.state.identity = found = _find(request)
    return found


async def identity(request: Request) -> Identity:
    """Return who asks; with a cookie, a request that changes something must carry the session's proof.

    Raises:
        HttpProblem: 401 if nobody is signed in, 403 without the proof.
    """
    found = await run_in_threadpool(known_identity, request)
    if found is None:
        raise not_signed_in()
    if found.csrf is not None and request.method not in SAFE:
        sent = request.headers.get(CSRF_HEADER) or await _field(request)
        if not sessions.same(sent, found.csrf):
            raise HttpProblem(
                403,
                "This request does not come from the desk's own pages.",
                f"With a cookie, {CSRF_HEADER} must be what `me` tells.",
                "Open the page again, then repeat it.",
            )
    return found


def allowed(permission: str) -> Callable[..., Awaitable[Identity]]:
    """Return a dependency that gives who asks, if that one has a permission.

    Raises:
        KeyError: At once, if the table has no such permission.
    """
    _ = PERMISSIONS[permission]

    async def check(request: Request, who: Identity = Depends(identity)) -> Identity:  # noqa: B008 (FastAPI's way)
        if not who.may(permission):
            raise not_allowed(permission)
        request.state.permission = permission
        return who

    check.permission = permission  # type: ignore[attr-defined]  # read by the tests of every route
    return check


def still_allowed(request: Request) -> bool:
    """Whether who asked may still have the answer: for answers that take long, or that go on.

    False once the token or the session ended, the account was closed, or its role or scopes no longer have
    the permission that the route needs. Looking does not count as use of a session.
    """
    before: Identity | None = getattr(request.state, "identity", None)
    if before is None:
        return True  # the answer is for everybody
    now = _find(request, record=False)
    if now is None or (now.account_id, now.via) != (before.account_id, before.via):
        return False
    permission: str | None = getattr(request.state, "permission", None)
    return permission is None or now.may(permission)


def address_of(request: Request) -> str:
    """Where a request comes from, for counting attempts."""
    return request.client.host if request.client else "unknown"


def set_cookie(response: Response, settings: ServerSettings, signed: SignedIn) -> None:
    """Give the browser its session."""
    response.set_cookie(
        _cookie(settings),
        signed.secret,
        max_age=int(settings.session_lifetime.total_seconds()),
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="strict",
    )


def drop_cookie(response: Response, settings: ServerSettings) -> None:
    """Take the session from the browser."""
    response.delete_cookie(
        _cookie(settings), path="/", secure=settings.secure_cookies, httponly=True, samesite="strict"
    )


def _find(request: Request, *, record: bool = True) -> Identity | None:
    workspace, settings = workspace_of(request), settings_of(request)
    sent = request.headers.get("Authorization")
    if sent is not None:  # a token that is wrong is an error, whatever the cookie says
        kind, _, secret = sent.partition(" ")
        bearer = tokens.known(workspace, secret.strip()) if kind.lower() == "bearer" else None
        if bearer is None:
            return None
        return Identity(bearer.account_id, bearer.name, bearer.role, "token", bearer.scopes)
    cookie = request.cookies.get(_cookie(settings))
    known = sessions.known(workspace, settings, cookie) if cookie else None
    if cookie is None or known is None:
        return None
    if known.stale and record:
        request.app.state.trail.used(known.digest)
    csrf = sessions.csrf_of(cookie)
    return Identity(known.account_id, known.name, known.role, "cookie", None, csrf, known.digest)


def _cookie(settings: ServerSettings) -> str:
    """Over TLS a name that browsers take from this host alone, for all of its paths."""
    return SECURE_COOKIE if settings.secure_cookies else COOKIE


async def _field(request: Request) -> str:
    if not request.headers.get("content-type", "").lower().startswith(FORMS):
        return ""
    form = await request.form()
    value = form.get(CSRF_FIELD)
    return value if isinstance(value, str) else ""
