# SPDX-License-Identifier: Apache-2.0
"""The queue of requests, and the form by which one is filed."""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from expunge import desk
from expunge.catalog import states
from expunge.catalog.states import State
from expunge.errors import ExpungeError, InputError
from expunge.evidence.log import REQUEST
from expunge.pipeline import dry_run
from expunge.queue.docket import waiting
from expunge.queue.intake import Opening, open_request
from expunge.steps.scoping import Ask
from expunge.web.pages import drawing, words
from expunge.web.pages.view import go, is_fragment, page, said
from expunge.web.security import Identity, allowed, workspace_of

router = APIRouter()
PER_PAGE = 25
MOST_LINES = 1000
MOST_CLASSES = 500  # that the form suggests; others can be typed
MOST_WAITING = 100  # of which a page works out what they save
SHOWS: dict[str, tuple[str, tuple[State, ...]]] = {
    "open": ("all that is not closed", tuple(s for s in State if s != State.CLOSED)),
    "overdue": ("overdue", ()),
    "decide": ("waits for a decision", (State.OPEN, State.SCOPED)),
    "approved": ("approved, waits to run", (State.APPROVED,)),
    "running": ("running, or cut short", states.UNDERWAY),
    "ending": ("done, but something is left", states.ENDING),
    "refused": ("refused, to be told", (State.REFUSED,)),
    "closed": ("closed", (State.CLOSED,)),
    "all": ("all", ()),
}
BLANK = {
    "dataset": "",
    "subjects": "",
    "samples": "",
    "class_name": "",
    "ground": "",
    "received": "",
    "recipients": "",
    "note": "",
    "method": "auto",
    "other": "",
    "defer": "",
    "delete_originals": "",
}
Filed = Annotated[str, Form()]


@router.get("/requests")
def queue(
    request: Request,
    me: Annotated[Identity, Depends(allowed("desk.view"))],
    show: str = "open",
    dataset: str = "",
    q: str = "",
    cursor: str = "",
) -> Response:
    """The queue, the most pressing first."""
    workspace = workspace_of(request)
    show = show if show in SHOWS else "open"
    problem = None
    if q.strip():
        if REQUEST.fullmatch(q.strip()):
            return go(f"/requests/{q.strip()}")
        problem = {
            "what": "That is no id of a request.",
            "why": "It looks like r-0123456789abcdef.",
            "next": "",
        }
    found = desk.queue(
        workspace,
        states=[str(state) for state in SHOWS[show][1]],
        dataset=dataset or None,
        overdue=show == "overdue",
        limit=PER_PAGE,
        cursor=cursor or None,
    )

    def address(cursor: str | None) -> str:
        asked = {"show": show, "dataset": dataset, "cursor": cursor or ""}
        return "/requests?" + urlencode({k: v for k, v in asked.items() if v})

    return page(
        request,
        "queue",
        400 if problem else 200,
        active="requests",
        rows=[{**row, "deadline": words.deadline(row)} for row in found.items],
        total=found.total or 0,
        overdue=desk.late(workspace),
        show=show,
        shows=[(name, title) for name, (title, _) in SHOWS.items()],
        dataset=dataset,
        datasets=desk.dataset_names(workspace),
        q=q,
        cursor=cursor,
        next=address(found.next) if found.next else None,
        first=address(None),
        filtered=bool(dataset) or show not in ("open", "all"),
        problem=problem,
    )


@router.get("/requests/savings")
def savings(request: Request, me: Annotated[Identity, Depends(allowed("desk.view"))]) -> Response:
    """What requests that wait together save; of very many that takes minutes, and is no work for a page."""
    workspace = workspace_of(request)
    by_state = desk.counts(workspace)["states"]
    several = by_state[State.SCOPED] + by_state[State.APPROVED]
    found = waiting(workspace) if several <= MOST_WAITING else []
    return page(
        request,
        "savings",
        active="requests",
        waiting=found,
        several=several if several > MOST_WAITING else None,
    )


@router.get("/requests/new")
def form(request: Request, me: Annotated[Identity, Depends(allowed("requests.file"))]) -> Response:
    """The form to file a request; its key makes one request of a form that is sent twice."""
    return _form(request, {**BLANK, "key": secrets.token_hex(16)})


@router.post("/requests/preview")
async def preview(request: Request, me: Annotated[Identity, Depends(allowed("requests.file"))]) -> Response:
    """What a request would mean; nothing is filed."""
    from starlette.concurrency import run_in_threadpool

    sent = await _sent(request)
    return await run_in_threadpool(_preview, request, sent)


@router.post("/requests")
async def file(request: Request, me: Annotated[Identity, Depends(allowed("requests.file"))]) -> Response:
    """File a request."""
    from starlette.concurrency import run_in_threadpool

    sent = await _sent(request)
    return await run_in_threadpool(_file, request, sent, me.name)


def _preview(request: Request, sent: dict[str, str]) -> Response:
    workspace = workspace_of(request)
    try:
        shown = scope_shown(dry_run(workspace, _ask(sent)))
    except ExpungeError as error:
        _, problem = said(workspace, error)
        shown = {"problem": problem}
    if is_fragment(request):
        return page(request, "scope", preview=shown)
    return _form(request, sent, preview=shown)


def _file(request: Request, sent: dict[str, str], actor: str) -> Response:
    workspace = workspace_of(request)
    try:
        opening = Opening(
            received=sent["received"] or None,
            key=f"{actor} {sent['key']}" if sent["key"] else None,
            ground=sent["ground"] or None,
            actor=actor,
            note=sent["note"].strip() or None,
            recipients=tuple(_names(sent["recipients"])),
        )
        opened = open_request(workspace, _ask(sent), opening)
    except ExpungeError as error:
        status, problem = said(workspace, error)
        return _form(request, sent, status, problem)
    told = "known" if opened["reused"] else "filed" if "due" in opened else "erased"
    return go(f"/requests/{opened['request']}", told)


def _form(
    request: Request,
    sent: dict[str, str],
    status: int = 200,
    problem: dict[str, str] | None = None,
    preview: dict[str, Any] | None = None,
) -> Response:
    workspace = workspace_of(request)
    return page(
        request,
        "new",
        status,
        active="requests",
        form=sent,
        datasets=desk.dataset_names(workspace),
        classes=desk.class_names(workspace)[:MOST_CLASSES],
        grounds=states.GROUNDS,
        preview=preview,
        problem=problem,
    )


async def _sent(request: Request) -> dict[str, str]:
    """The fields of the form that are text; files and unknown fields are left out."""
    form = await request.form()
    return {k: v if isinstance(v := form.get(k, ""), str) else "" for k in (*BLANK, "key")}


def _ask(sent: dict[str, str]) -> Ask:
    class_name = sent["class_name"].strip() or None
    if class_name and (sent["subjects"].strip() or sent["samples"].strip()):
        raise InputError(
            "A request is for a class, or for people and samples.",
            "They are judged in different ways: a class must be gone, a person must be as if never seen.",
            "File two requests.",
        )
    return Ask(
        subjects=tuple(_lines(sent["subjects"])),
        samples=tuple(_lines(sent["samples"])),
        class_name=class_name,
        dataset=sent["dataset"] or None,
        method=sent["other"].strip() or sent["method"] or "auto",
        defer=bool(sent["defer"]),
        delete_originals=bool(sent["delete_originals"]),
    )


def _lines(text: str) -> list[str]:
    found = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if len(found) > MOST_LINES:
        raise InputError(
            "Those are too many lines.", f"A form takes {MOST_LINES:,}.", "Use `expunge request open --from`."
        )
    return found


def _names(text: str) -> list[str]:
    found = _lines(text)
    if any(len(name) > 200 or not name.isprintable() for name in found):
        raise InputError("A recipient's name does not fit.", "", "Give one short name in each line.")
    return found


def scope_shown(found: dict[str, Any]) -> dict[str, Any]:
    """Return a dry run's answer as the template draws it."""
    before = found.get("already_erased_by", found.get("erased_before", ()))
    models = [{**m, "drawing": drawing.stages(m["map"]) if m["saw"] else None} for m in found["models"]]
    return {**found, "problem": None, "already": len(before), "models": models}
