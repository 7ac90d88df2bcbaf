# SPDX-License-Identifier: Apache-2.0
"""Makes pages from templates: everything is escaped, a name that a template lacks is an error."""

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
from expunge.evidence.report import figure, short
from expunge.templating import environment
from expunge.web.pages import words
from expunge.web.pages.static import FILES
from expunge.web.problems import Problem, problem_of
from expunge.web.security import Identity, known_identity, workspace_of

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
# What a page says after a deed, by the code that stands in its address: no text of a user's comes from there.
TOLD = {
    "filed": "The request is filed. Its clock runs from the day of receipt.",
    "known": "This form was sent before: this is the request that it made.",
    "erased": "All of that was erased before, by this request.",
    "approved": "The request is approved.",
    "refused": "The request is refused. Now the person must be told.",
    "closed": "The notice is recorded, and the request is closed.",
    "extended": "The deadline is extended.",
    "recorded": "It is recorded.",
    "started": "The work has started.",
    "account": "The account is made.",
    "changed": "The account is changed.",
    "password": "The password is changed. All other sessions of yours have ended.",
    "revoked": "The token is revoked.",
    "out": "You are signed out.",
}


def page(request: Request, template: str, status: int = 200, /, **context: Any) -> HTMLResponse:
    """Return a page.

    Args:
        request: The request that it answers.
        template: Its name, without its ending.
        status: The HTTP status.
        context: What the template is given, beside who is signed in.
    """
    me = known_identity(request)
    workspace = workspace_of(request)
    told = TOLD.get(request.query_params.get("told", "")) if request.method == "GET" else None
    known: dict[str, Any] = {
        "me": me,
        "csrf": (me.csrf if me else None) or "",
        "menu": [(key, at, title) for key, at, title, right in MENU if me and me.may(right)],
        "active": None,
        "told": told,
        "problem": None,
        "today": clock.local_day(workspace.clock(), workspace.settings.rules).isoformat(),
        "zone": workspace.settings.clock.zone,
        "version": _version(),
        "layout": "fragment.html.j2" if is_fragment(request) else "base.html.j2",
    }
    pages = _environment(workspace.settings.clock.zone)
    text = pages.get_template(f"{template}.html.j2").render({**known, **context})
    return HTMLResponse(text, status, {"Vary": "HX-Request"})


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("HX-Request") == "true"


def problem_page(request: Request, problem: Problem) -> Response:
    """Return the page of an error; whoever is not signed in is sent to do that first."""
    if problem.status == 401 and request.method == "GET":
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        at = "/login" if here == "/" else f"/login?next={quote(here, safe='')}"
        return RedirectResponse(at, 303, {"HX-Redirect": at} if is_fragment(request) else None)
    return page(request, "problem", problem.status, problem=_words(problem), answer=problem.status)


def said(workspace: Workspace, error: ExpungeError) -> tuple[int, dict[str, str]]:
    """Return an error's status, and its words for the page that the person comes from."""
    problem = problem_of(error, str(workspace.root))
    return problem.status, _words(problem)


def go(address: str, told: str | None = None) -> RedirectResponse:
    """Return the way to another page after a form was sent."""
    return RedirectResponse(f"{address}?told={told}" if told else address, 303)


def can(request: Request, permission: str) -> bool:
    """Whether who asks has a permission."""
    me: Identity | None = known_identity(request)
    return me is not None and me.may(permission)


def inside(address: str) -> str:
    """Return an address if it leads to a page of the desk, else the first page."""
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if safe and "\\" not in address else "/"


def _words(problem: Problem) -> dict[str, str]:
    """A problem's words; a command of the shell is no way on for somebody who looks at a page."""
    following = "" if "expunge " in problem.next else problem.next
    return {"what": problem.title, "why": problem.detail, "next": following}


@cache
def _version() -> str:
    return sha256(b"".join(content for content, _ in FILES.values())).hexdigest()[:12]


@cache
def _environment(zone: str) -> Environment:
    local = partial(_local, zone=zone)
    filters: dict[str, Callable[..., Any]] = {
        "moment": lambda text: words.moment(local(text)),
        "day": lambda text: words.day(local(text)),
        "date": lambda text: words.date(local(text)),
        "short": short,
        "number": figure,
        "percent": words.percent,
        "span": words.span,
        "facts": _facts,
    }
    made = environment("expunge.web", filters)
    made.globals |= {
        "many": words.many,
        "state": words.state,
        "model_states": words.MODEL_STATES,
        "verdicts": words.VERDICTS,
        "checks_shown": words.CHECKS,
        "decided": words.DECIDED,
        "event": words.event,
    }
    return made


def _local(text: str | None, zone: str) -> str | None:
    """A moment with its zone as one of the workspace's zone; a day stays as it is."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return text
    return moment.astimezone(clock.zone_of(zone)).isoformat() if moment.tzinfo else text


def _facts(detail: Mapping[str, Any]) -> str:
    """Small facts of an event in a line."""

    def one(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, bool):
            return "yes" if value else "no"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return "; ".join(f"{key.replace('_', ' ')}: {one(v)}" for key, v in detail.items() if v not in (None, []))
