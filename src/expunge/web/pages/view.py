# SPDX-License-Identifier: Apache-2.0
"""Render pages from templates. All values are escaped, and an undefined name is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import Request
from jinja2 import Environment
from starlette.responses import HTMLResponse, RedirectResponse, Response

from expunge.catalog import clock
from expunge.errors import ExpungeError
from expunge.evidence.report_page import figure, short
from expunge.templating import environment
from expunge.web.auth.access import Identity, known_identity, workspace_of
from expunge.web.pages import texts
from expunge.web.pages.static import FILES
from expunge.web.problems import Problem, problem_of

if TYPE_CHECKING:
    from expunge.workspace import Workspace

MENU = (
    ("requests", "/requests", "Requests", "desk.view"),
    ("models", "/models", "Models", "desk.view"),
    ("datasets", "/datasets", "Datasets", "desk.view"),
    ("log", "/log", "Log", "desk.view"),
    ("verify", "/verify", "Verify", "certificates.verify"),
    ("accounts", "/accounts", "Accounts", "accounts.manage"),
)
# Notices after an action, by the code in the page's address, so that no text from the address is shown.
NOTICES = {
    "filed": "The request is filed. Its clock runs from the day of receipt.",
    "known": "This form was sent before. This is the request that it made.",
    "erased": "All of it was erased before, by this request.",
    "approved": "The request is approved.",
    "refused": "The request is refused. Now the person must be informed.",
    "closed": "The notice is recorded, and the request is closed.",
    "extended": "The deadline is extended.",
    "recorded": "It is recorded.",
    "started": "The work has started.",
    "account": "The account is created.",
    "changed": "The account is changed.",
    "password": "The password is changed. All other sessions of yours have ended.",
    "revoked": "The token is revoked.",
    "out": "You are signed out.",
}


def page(request: Request, template: str, status: int = 200, /, **context: Any) -> HTMLResponse:
    """Return a page.

    Args:
        request: The HTTP request.
        template: Name of the template, without its suffix.
        status: HTTP status.
        context: Variables of the template, besides those of every page.
    """
    me = known_identity(request)
    workspace = workspace_of(request)
    notice = NOTICES.get(request.query_params.get("told", "")) if request.method == "GET" else None
    common: dict[str, Any] = {
        "me": me,
        "csrf": (me.csrf if me else None) or "",
        "menu": [(key, at, title) for key, at, title, right in MENU if me and me.may(right)],
        "active": None,
        "notice": notice,
        "problem": None,
        "today": clock.local_day(workspace.clock(), workspace.settings.rules).isoformat(),
        "zone": workspace.settings.clock.zone,
        "version": _version(),
        "layout": "fragment.html.j2" if is_fragment(request) else "base.html.j2",
    }
    pages = _environment(workspace.settings.clock.zone)
    text = pages.get_template(f"{template}.html.j2").render({**common, **context})
    return HTMLResponse(text, status, {"Vary": "HX-Request"})


def is_fragment(request: Request) -> bool:
    """Return whether htmx requests a part of a page."""
    return request.headers.get("HX-Request") == "true"


def problem_page(request: Request, problem: Problem) -> Response:
    """Return the page of an error, or a redirect to the sign-in page if nobody is signed in."""
    if problem.status == 401 and request.method == "GET":
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        at = "/login" if here == "/" else f"/login?next={quote(here, safe='')}"
        return RedirectResponse(at, 303, {"HX-Redirect": at} if is_fragment(request) else None)
    return page(request, "problem", problem.status, problem=_words(problem), answer=problem.status)


def problem_context(workspace: Workspace, error: ExpungeError) -> tuple[int, dict[str, str]]:
    """Return an error's HTTP status, and its texts for the template of the form."""
    problem = problem_of(error, str(workspace.root))
    return problem.status, _words(problem)


def go(address: str, notice: str | None = None) -> RedirectResponse:
    """Return a redirect after a form was sent.

    Args:
        address: Address of the next page.
        notice: Key of ``NOTICES``, for a notice on that page.
    """
    return RedirectResponse(f"{address}?told={notice}" if notice else address, 303)


def can(request: Request, permission: str) -> bool:
    """Return whether the user has a permission."""
    me: Identity | None = known_identity(request)
    return me is not None and me.may(permission)


def inside(address: str) -> str:
    """Return an address if it leads to a page of the desk, else ``/``, against open redirects."""
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if safe and "\\" not in address else "/"


def _words(problem: Problem) -> dict[str, str]:
    """Return a problem's texts for a page. Next steps that are shell commands are left out."""
    next_step = "" if "expunge " in problem.next else problem.next
    return {"what": problem.title, "why": problem.detail, "next": next_step}


@cache
def _version() -> str:
    return sha256(b"".join(content for content, _ in FILES.values())).hexdigest()[:12]


@cache
def _environment(zone: str) -> Environment:
    local = partial(_local, zone=zone)
    filters: dict[str, Callable[..., Any]] = {
        "moment": lambda text: texts.moment(local(text)),
        "day": lambda text: texts.day(local(text)),
        "date": lambda text: texts.date(local(text)),
        "short": short,
        "number": figure,
        "percent": texts.percent,
        "span": texts.span,
        "facts": _facts,
    }
    jinja = environment("expunge.web", filters)
    jinja.globals |= {
        "many": texts.many,
        "state": texts.state,
        "model_states": texts.MODEL_STATES,
        "verdicts": texts.VERDICTS,
        "checks_shown": texts.CHECKS,
        "decided": texts.DECIDED,
        "event": texts.event,
    }
    return jinja


def _local(text: str | None, zone: str) -> str | None:
    """Return a time with a zone in the workspace's time zone. A date stays unchanged."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return text
    return moment.astimezone(clock.zone_of(zone)).isoformat() if moment.tzinfo else text


def _facts(detail: Mapping[str, Any]) -> str:
    """Return the details of an event as one line."""

    def one(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, bool):
            return "yes" if value else "no"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return "; ".join(f"{key.replace('_', ' ')}: {one(v)}" for key, v in detail.items() if v not in (None, []))
