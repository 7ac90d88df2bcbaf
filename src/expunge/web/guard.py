# SPDX-License-Identifier: Apache-2.0
"""What holds for every request before a route sees it, and for every answer: hosts, origins, sizes, headers.

The policy lets a page load nothing but the desk's own files, run no script written into it, and be framed by
nobody. The Host header must be one that the server was started for (DNS rebinding), and what changes
something must come from the desk's own origin, where the browser says from where it comes.
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
from expunge.web.problems import HttpProblem, Problem, answer, not_signed_in
from expunge.web.security import SAFE, Identity, still_allowed
from expunge.web.settings import ServerSettings
from expunge.web.trail import Entry

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
RECHECK_SECONDS = 1.0  # who asked is looked up again at most so often
NAMED = re.compile(r"[rjt]-[0-9a-f]{16}|[A-Za-z0-9][A-Za-z0-9._-]{0,99}@[1-9][0-9]{0,8}")


class Guard:
    """ASGI middleware around everything.

    Args:
        app: What is guarded.
        settings: What the server was started with.
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
                self._dress(scope, MutableHeaders(scope=message))
            await send(message)

        if scope["method"] in SAFE:
            guarded = _Watched(scope, receive, guarded)
        problem = self._refusal(scope, request)
        if problem is not None:
            await answer(problem)(scope, receive, guarded)
            return
        try:
            await self.app(scope, self._limited(receive), guarded)
        except _TooLarge:
            await answer(_too_large(self.settings))(scope, receive, guarded)

    def _refusal(self, scope: Scope, request: Headers) -> Problem | None:
        """Why the request is not even looked at."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or _name(hosts[0]) not in self.settings.hosts:
            return Problem(
                title="This desk is not reached under that name.", status=421,
                detail="The Host header names another than those that the server was started for.",
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
        """Whether a browser, if it is one, says that a page of the desk makes the request.

        A form of a page without referrers comes with the Origin ``null`` (Fetch standard, section 3.2), so
        where a browser says in so many words from which site it comes, that decides.
        """
        site, origin = request.get("sec-fetch-site"), request.get("origin")
        if site is not None and (site != "same-origin" or origin == "null"):
            return site in ("same-origin", "none")
        if origin is None:
            return True
        parts = urlsplit(origin) if origin.startswith(("http://", "https://")) else None
        return parts is not None and parts.netloc.lower() == host.lower()

    def _limited(self, receive: Receive) -> Receive:
        left = self.settings.upload_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        return limited

    def _dress(self, scope: Scope, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        kept = "public, max-age=3600" if scope["path"].startswith(STATIC) else "no-store"
        headers.setdefault("Cache-Control", kept)
        if self.settings.secure_cookies:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")


class _Watched:
    """Sends an answer, and withholds what is left of it once who asked may no longer have it.

    An answer that takes longer than ``RECHECK_SECONDS``, or goes on, is checked before each part. What a
    request changed is done by then, so only reading is watched.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.checked = time.monotonic()
        self.started = self.over = False

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer."""
        if self.over:
            return
        if time.monotonic() - self.checked >= RECHECK_SECONDS:
            self.over = not await run_in_threadpool(still_allowed, Request(self.scope))
            self.checked = time.monotonic()
        if not self.over:
            self.started = True
            await self.send(message)
        elif self.started:  # it breaks off
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            refused = not_signed_in()
            await answer(refused.problem, refused.headers)(self.scope, self.receive, self.send)


class _TooLarge(HttpProblem):
    """The body is longer than it may be."""

    def __init__(self) -> None:
        super().__init__(413, "That is too large.", "", "Send less.")


def _too_large(settings: ServerSettings) -> Problem:
    most = f"At most {settings.upload_bytes:,} bytes are taken."
    return Problem(title="That is too large.", status=413, detail=most, next="Send less.")


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:@/\\\s]+)(:\d{1,5})?", host.lower())
    return found.group(1) if found else ""


def _route(path: str, given: dict[str, Any]) -> str:
    """A path with the names of its parts in place of what was given, which may be anything."""
    names = {str(value): f"{{{name}}}" for name, value in given.items()}
    return "/".join(names.get(part, part) for part in path.split("/"))[:200]


async def _record(scope: Scope, status: int) -> None:
    """Tell the trail; of views also those that were refused."""
    state: dict[str, Any] = scope.get("state", {})
    who: Identity | None = state.get("identity")
    app, given = scope.get("app"), scope.get("path_params", {})
    if who is None or app is None or "route" not in scope:
        return
    trail, workspace = app.state.trail, app.state.workspace
    named = state.get("object") or next(iter(given.values()), None)
    known = named if status < 400 and isinstance(named, str) and NAMED.fullmatch(named) else None
    route = _route(scope["path"], given)
    entry = Entry(workspace.clock(), who.name, who.via, scope["method"], route, known, status)
    if scope["method"] in SAFE:
        trail.saw(entry)
        return
    try:
        await run_in_threadpool(trail.did, entry)
    except ExpungeError:  # the disk refuses at this moment; it is done, so it must be told later
        trail.saw(entry)
