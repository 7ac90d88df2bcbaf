# SPDX-License-Identifier: Apache-2.0
"""Middleware for all requests and responses: host and origin checks, size limits, security headers.

The content security policy allows only the desk's own files, no inline scripts, and no framing. The Host
header must be one of the server's own (against DNS rebinding). Requests that change data must come from the
desk's own origin, if the browser states an origin.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from expunge.errors import ExpungeError
from expunge.web.auth.access import SAFE, Identity, still_allowed
from expunge.web.auth.access_log import AccessEntry
from expunge.web.problems import HttpProblem, Problem, answer, not_signed_in
from expunge.web.settings import ServerSettings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Frame-Options": "DENY",
}
STATIC = "/static/"
RECHECK_SECONDS = 1.0  # shortest time between two permission checks of one response
OBJECT_ID = re.compile(r"[rjt]-[0-9a-f]{16}|[A-Za-z0-9][A-Za-z0-9._-]{0,99}@[1-9][0-9]{0,8}")


class Guard:
    """ASGI middleware that wraps the whole application.

    Args:
        app: The application.
        settings: The server's settings.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Headers(scope=scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                await _record(scope, message["status"])
                self._add_headers(scope, MutableHeaders(scope=message))
            await send(message)

        if scope["method"] in SAFE:
            guarded = _RecheckedSend(scope, receive, guarded)
        problem = self._refusal(scope, request)
        if problem is not None:
            await answer(problem)(scope, receive, guarded)
            return
        try:
            await self.app(scope, self._limited(receive), guarded)
        except _TooLarge:
            await answer(_too_large(self.settings))(scope, receive, guarded)

    def _refusal(self, scope: Scope, request: Headers) -> Problem | None:
        """Return the problem for which the request is rejected before routing, or None."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or _name(hosts[0]) not in self.settings.hosts:
            return Problem(
                title="This desk is not reached under that name.", status=421,
                detail="The Host header is not one of those that the server was started for.",
                next="Use the address that `expunge serve` printed; see --behind-tls.",
            )  # fmt: skip
        if scope["method"] not in SAFE and not self._own_origin(request, hosts[0]):
            return Problem(
                title="This request comes from another page.", status=403,
                detail="Its Origin is not the desk's own.", next="Use the desk's own pages.",
            )  # fmt: skip
        length = request.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.upload_bytes:
            return _too_large(self.settings)
        return None

    def _own_origin(self, request: Headers, host: str) -> bool:
        """Return whether the request's headers are consistent with a page of the desk.

        A form on a page without referrers has the Origin ``null`` (Fetch standard, section 3.2). The header
        Sec-Fetch-Site therefore takes precedence if the browser sends it.
        """
        site, origin = request.get("sec-fetch-site"), request.get("origin")
        if site is not None and (site != "same-origin" or origin == "null"):
            return site in ("same-origin", "none")
        if origin is None:
            return True
        parts = urlsplit(origin) if origin.startswith(("http://", "https://")) else None
        return parts is not None and parts.netloc.lower() == host.lower()

    def _limited(self, receive: Receive) -> Receive:
        remaining = self.settings.upload_bytes

        async def limited() -> Message:
            nonlocal remaining
            message = await receive()
            remaining -= len(message.get("body", b""))
            if remaining < 0:
                raise _TooLarge
            return message

        return limited

    def _add_headers(self, scope: Scope, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        caching = "public, max-age=3600" if scope["path"].startswith(STATIC) else "no-store"
        headers.setdefault("Cache-Control", caching)
        if self.settings.secure_cookies:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")


class _RecheckedSend:
    """Sends a response, and stops once the user may no longer read it.

    A response that takes longer than ``RECHECK_SECONDS``, or is a stream, is checked again before each part.
    Only reading is checked, because changes are done before the response starts.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.checked = time.monotonic()
        self.started = self.stopped = False

    async def __call__(self, message: Message) -> None:
        """Send a part of the response."""
        if self.stopped:
            return
        if time.monotonic() - self.checked >= RECHECK_SECONDS:
            self.stopped = not await run_in_threadpool(still_allowed, Request(self.scope))
            self.checked = time.monotonic()
        if not self.stopped:
            self.started = True
            await self.send(message)
        elif self.started:  # end the response early
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            refused = not_signed_in()
            await answer(refused.problem, refused.headers)(self.scope, self.receive, self.send)


class _TooLarge(HttpProblem):
    """The request body is too long."""

    def __init__(self) -> None:
        super().__init__(413, "That is too large.", "", "Send less.")


def _too_large(settings: ServerSettings) -> Problem:
    limit = f"At most {settings.upload_bytes:,} bytes are accepted."
    return Problem(title="That is too large.", status=413, detail=limit, next="Send less.")


def _name(host: str) -> str:
    """Return the host name in a Host header, without the port; empty if it is malformed."""
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:@/\\\s]+)(:\d{1,5})?", host.lower())
    return found.group(1) if found else ""


def _route(path: str, parameters: dict[str, Any]) -> str:
    """Return a path with placeholders in place of its parameters, which may hold anything."""
    names = {str(value): f"{{{name}}}" for name, value in parameters.items()}
    return "/".join(names.get(part, part) for part in path.split("/"))[:200]


async def _record(scope: Scope, status: int) -> None:
    """Record a request in the access log, including refused reads."""
    state: dict[str, Any] = scope.get("state", {})
    identity: Identity | None = state.get("identity")
    app, parameters = scope.get("app"), scope.get("path_params", {})
    if identity is None or app is None or "route" not in scope:
        return
    trail, workspace = app.state.trail, app.state.workspace
    target = state.get("object") or next(iter(parameters.values()), None)
    known = target if status < 400 and isinstance(target, str) and OBJECT_ID.fullmatch(target) else None
    route = _route(scope["path"], parameters)
    entry = AccessEntry(workspace.clock(), identity.name, identity.via, scope["method"], route, known, status)
    if scope["method"] in SAFE:
        trail.saw(entry)
        return
    try:
        await run_in_threadpool(trail.did, entry)
    except ExpungeError:  # the disk refuses now; the change is done, so the entry is written later
        trail.saw(entry)
