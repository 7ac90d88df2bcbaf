# SPDX-License-Identifier: Apache-2.0
"""Pages for the queue of requests, and the form for filing a request."""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from expunge.catalog import states
from expunge.catalog.states import State
from expunge.erasure.execution import dry_run
from expunge.erasure.intake import Opening, open_request
from expunge.erasure.scope import ErasureRequest
from expunge.erasure.status import waiting_costs
from expunge.errors import ExpungeError, InputError
from expunge.evidence.log import REQUEST
from expunge.web import queries
from expunge.web.auth.access import Identity, allowed, workspace_of
from expunge.web.pages import drawing, texts
from expunge.web.pages.view import go, is_fragment, page, problem_context

router = APIRouter()
PER_PAGE = 25
MOST_LINES = 1000
MOST_CLASSES = 500  # class names suggested by the form; others can be typed
MOST_WAITING = 100  # with more waiting requests, the savings are not computed
SHOWS: dict[str, tuple[str, tuple[State, ...]]] = {
    "open": ("all open requests", tuple(s for s in State if s != State.CLOSED)),
    "overdue": ("overdue", ()),
    "decide": ("waits for a decision", (State.OPEN, State.SCOPED)),
    "approved": ("approved, waits to run", (State.APPROVED,)),
    "running": ("running or interrupted", states.RUNNING_STATES),
    "ending": ("done, but something is left", states.EXECUTED_STATES),
    "refused": ("refused, person to be informed", (State.REFUSED,)),
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
    """Show the queue, the most urgent requests first."""
    workspace = workspace_of(request)
    show = show if show in SHOWS else "open"
    problem = None
    if q.strip():
        if REQUEST.fullmatch(q.strip()):
            return go(f"/requests/{q.strip()}")
        problem = {
            "what": "That is not the id of a request.",
            "why": "An id looks like r-0123456789abcdef.",
            "next": "",
        }
    found = queries.queue(
        workspace,
        states=[str(state) for state in SHOWS[show][1]],
        dataset=dataset or None,
        overdue=show == "overdue",
        limit=PER_PAGE,
        cursor=cursor or None,
    )

    def address(cursor: str | None) -> str:
        parameters = {"show": show, "dataset": dataset, "cursor": cursor or ""}
        return "/requests?" + urlencode({k: v for k, v in parameters.items() if v})

    return page(
        request,
        "queue",
        400 if problem else 200,
        active="requests",
        rows=[{**row, "deadline": texts.deadline(row)} for row in found.items],
        total=found.total or 0,
        overdue=queries.count_overdue(workspace),
        show=show,
        shows=[(name, title) for name, (title, _) in SHOWS.items()],
        dataset=dataset,
        datasets=queries.dataset_names(workspace),
        q=q,
        cursor=cursor,
        next=address(found.next) if found.next else None,
        first=address(None),
        filtered=bool(dataset) or show not in ("open", "all"),
        problem=problem,
    )


@router.get("/requests/savings")
def savings(request: Request, me: Annotated[Identity, Depends(allowed("desk.view"))]) -> Response:
    """Show what running the waiting requests together saves, unless there are too many to compute it."""
    workspace = workspace_of(request)
    by_state = queries.counts(workspace)["states"]
    several = by_state[State.SCOPED] + by_state[State.APPROVED]
    found = waiting_costs(workspace) if several <= MOST_WAITING else []
    return page(
        request,
        "savings",
        active="requests",
        waiting=found,
        several=several if several > MOST_WAITING else None,
    )


@router.get("/requests/new")
def form(request: Request, me: Annotated[Identity, Depends(allowed("requests.file"))]) -> Response:
    """Show the form for filing a request. Its key prevents a second request if it is sent twice."""
    return _form(request, {**BLANK, "key": secrets.token_hex(16)})


@router.post("/requests/preview")
async def preview(request: Request, me: Annotated[Identity, Depends(allowed("requests.file"))]) -> Response:
    """Show the scope of a request without filing it."""
    from starlette.concurrency import run_in_threadpool

    fields = await _text_fields(request)
    return await run_in_threadpool(_preview, request, fields)


@router.post("/requests")
async def file(request: Request, me: Annotated[Identity, Depends(allowed("requests.file"))]) -> Response:
    """File a request."""
    from starlette.concurrency import run_in_threadpool

    fields = await _text_fields(request)
    return await run_in_threadpool(_file, request, fields, me.name)


def _preview(request: Request, fields: dict[str, str]) -> Response:
    workspace = workspace_of(request)
    try:
        preview = scope_context(dry_run(workspace, _erasure_request(fields)))
    except ExpungeError as error:
        _, problem = problem_context(workspace, error)
        preview = {"problem": problem}
    if is_fragment(request):
        return page(request, "scope", preview=preview)
    return _form(request, fields, preview=preview)


def _file(request: Request, fields: dict[str, str], actor: str) -> Response:
    workspace = workspace_of(request)
    try:
        opening = Opening(
            received=fields["received"] or None,
            key=f"{actor} {fields['key']}" if fields["key"] else None,
            ground=fields["ground"] or None,
            actor=actor,
            note=fields["note"].strip() or None,
            recipients=tuple(_names(fields["recipients"])),
        )
        opened = open_request(workspace, _erasure_request(fields), opening)
    except ExpungeError as error:
        status, problem = problem_context(workspace, error)
        return _form(request, fields, status, problem)
    notice = "known" if opened["reused"] else "filed" if "due" in opened else "erased"
    return go(f"/requests/{opened['request']}", notice)


def _form(
    request: Request,
    fields: dict[str, str],
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
        form=fields,
        datasets=queries.dataset_names(workspace),
        classes=queries.class_names(workspace)[:MOST_CLASSES],
        grounds=states.GROUNDS,
        preview=preview,
        problem=problem,
    )


async def _text_fields(request: Request) -> dict[str, str]:
    """Return the text fields of the form; files and unknown fields are ignored."""
    form = await request.form()
    return {k: v if isinstance(v := form.get(k, ""), str) else "" for k in (*BLANK, "key")}


def _erasure_request(fields: dict[str, str]) -> ErasureRequest:
    class_name = fields["class_name"].strip() or None
    if class_name and (fields["subjects"].strip() or fields["samples"].strip()):
        raise InputError(
            "A request is for a class, or for people and samples.",
            "They are judged differently: a class must be gone, a person must be as if never seen.",
            "File two requests.",
        )
    return ErasureRequest(
        subjects=tuple(_lines(fields["subjects"])),
        samples=tuple(_lines(fields["samples"])),
        class_name=class_name,
        dataset=fields["dataset"] or None,
        method=fields["other"].strip() or fields["method"] or "auto",
        defer=bool(fields["defer"]),
        delete_originals=bool(fields["delete_originals"]),
    )


def _lines(text: str) -> list[str]:
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if len(lines) > MOST_LINES:
        raise InputError(
            "There are too many lines.",
            f"A form accepts {MOST_LINES:,}.",
            "Use `expunge request open --from`.",
        )
    return lines


def _names(text: str) -> list[str]:
    names = _lines(text)
    if any(len(name) > 200 or not name.isprintable() for name in names):
        raise InputError("A recipient's name is too long or not text.", "", "Give one short name per line.")
    return names


def scope_context(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a dry run as context for the template ``scope``."""
    erased_before = result.get("already_erased_by", result.get("erased_before", ()))
    models = [{**m, "drawing": drawing.stages(m["map"]) if m["saw"] else None} for m in result["models"]]
    return {**result, "problem": None, "already": len(erased_before), "models": models}
