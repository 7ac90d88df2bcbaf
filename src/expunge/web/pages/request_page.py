# SPDX-License-Identifier: Apache-2.0
"""A request's page: its story from receipt to certificate, and what can be done with it now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from expunge import desk
from expunge.catalog import states
from expunge.catalog.states import State
from expunge.comparison import couples_of
from expunge.errors import ExpungeError, InputError
from expunge.evidence import certificate as issued
from expunge.evidence.plain_words import in_plain_words
from expunge.evidence.report import DUTIES
from expunge.evidence.statement import GUARANTEES
from expunge.queue import intake
from expunge.web import jobs
from expunge.web.pages import words
from expunge.web.pages.queue import scope_shown
from expunge.web.pages.view import go, page, said
from expunge.web.security import Identity, allowed, workspace_of

if TYPE_CHECKING:
    from expunge.web.jobs import Job
    from expunge.workspace import Workspace

router = APIRouter(prefix="/requests/{request_id}")
Text = Annotated[str, Form()]
MOST_METRICS = 4


@router.get("")
def show(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("desk.view"))]
) -> Response:
    """The story of a request."""
    return _show(request, request_id, me)


@router.get("/scope")
def scope(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("desk.view"))]
) -> Response:
    """What executing it would do, and the price: worked out when it is looked at, as data may change."""
    workspace = workspace_of(request)
    try:
        shown = scope_shown(desk.scope(workspace, request_id))
    except ExpungeError as error:
        shown = {"problem": said(workspace, error)[1]}
    return page(request, "scope_page", active="requests", request_id=request_id, preview=shown)


@router.post("/approve")
def approve(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("requests.approve"))]
) -> Response:
    """Approve it."""
    approve_it = partial(intake.approve, workspace_of(request), request_id, me.name)
    return _change(request, request_id, me, "approved", approve_it)


@router.post("/refuse")
def refuse(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("requests.refuse"))],
    reason: Text = "",
    note: Text = "",
    told: Text = "",
) -> Response:
    """Refuse it, or record that the person was told of that."""
    said_why = reason or None, note.strip() or None, told or None
    refuse_it = partial(intake.refuse, workspace_of(request), request_id, *said_why, me.name)
    return _change(request, request_id, me, "closed" if told else "refused", refuse_it)


@router.post("/extend")
def extend(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("requests.extend"))],
    reason: Text = "",
    told: Text = "",
    months: Text = "",
) -> Response:
    """Put the due date off."""
    count = int(months) if months.isdecimal() and len(months) < 3 else None
    extend_it = partial(intake.extend, workspace_of(request), request_id, reason, told, count, me.name)
    return _change(request, request_id, me, "extended", extend_it)


@router.post("/tell")
def tell(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("requests.tell"))],
    recipient: Text = "",
    on: Text = "",
    why_not: Text = "",
) -> Response:
    """Record that a recipient was told, or why not."""

    def tell_it() -> None:
        if why_not not in ("", "impossible", "disproportionate"):
            raise InputError("That is no reason.", "Known: impossible, disproportionate.", "Choose one.")
        if len(recipient) > 200 or not recipient.isprintable():
            raise InputError("The recipient's name does not fit.", "", "Give a short one.")
        intake.tell(workspace_of(request), request_id, recipient, on or None, why_not or None, me.name)

    return _change(request, request_id, me, "recorded", tell_it)


@router.post("/run")
def run(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("requests.run"))]
) -> Response:
    """Let a worker execute it."""
    workspace = workspace_of(request)
    try:
        desk.check_runnable(workspace, [request_id])
    except ExpungeError as error:
        return _show(request, request_id, me, error)
    return start(request, request_id, jobs.RUN, {"requests": [request_id]}, me)


@router.post("/audit")
def audit(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("audits.run"))],
    model: Text = "",
    level: Text = "quick",
) -> Response:
    """Let a worker audit one of its models."""
    models = _auditable(desk.story(workspace_of(request), request_id))
    if model not in models or level not in ("quick", "standard", "full"):
        raise InputError(
            "There is no such audit.", f"The request made: {', '.join(models) or 'nothing'}.", ""
        )
    asked = {"model": model, "request": request_id, "level": level}
    return start(request, request_id, jobs.AUDIT, asked, me)


def _change(
    request: Request, request_id: str, me: Identity, told: str, change: Callable[[], object]
) -> Response:
    """Do something to the request and go to its page, which says what was done, or why it was not."""
    try:
        change()
    except ExpungeError as error:
        return _show(request, request_id, me, error)
    return go(f"/requests/{request_id}", told)


def start(request: Request, request_id: str, kind: str, asked: Mapping[str, Any], me: Identity) -> Response:
    """Give work to a worker, unless the same waits or runs already, and go to the request's page."""
    workspace = workspace_of(request)
    busy = [j for j in jobs.of_request(workspace, request_id) if not j.ended and j.kind == kind]
    if not busy:
        request.app.state.supervisor.submit(kind, asked, me.name)
    return go(f"/requests/{request_id}", "started")


def _show(request: Request, request_id: str, me: Identity, error: ExpungeError | None = None) -> Response:
    workspace = workspace_of(request)
    r = desk.story(workspace, request_id)
    status, problem = said(workspace, error) if error is not None else (200, None)
    asked = desk.selected(workspace, request_id) if me.may("selection.view") else None
    mine = jobs.of_request(workspace, request_id)
    active = next((j for j in mine if not j.ended), None)
    s = _steps(r)
    compared = next((j for j in mine if j.kind == jobs.COMPARE and j.state == jobs.DONE), None)
    return page(
        request,
        "request",
        status,
        active="requests",
        r=r,
        s={**s, "can_compare": s["erased"] and any(couples_of(workspace, request_id))},
        meaning=words.MEANINGS.get(r["state"], ""),
        deadline=words.deadline(r),
        selection=asked,
        note=asked["note"] if asked else None,
        certificate=_certificate(workspace, request_id),
        models=[_model(m) for m in r["outcome"] or []],
        originals=r["originals_left"],
        audits=[_audit(workspace, a["audit"]) for a in r["audits"]],
        auditable=_auditable(r) if r["state"] in (*states.UNDERWAY, *states.ENDING) else [],
        comparison=compared is not None,
        job=_job(active) if active else None,
        last_failed=mine[0] if mine and mine[0].state == jobs.FAILED and r["state"] != "closed" else None,
        entries=desk.log_page(workspace, request=request_id, limit=50).items,
        grounds=states.GROUNDS,
        refusals=states.REFUSALS,
        extensions=states.EXTENSIONS,
        months=workspace.settings.clock.extension_months,
        four_eyes=r["four_eyes"],
        sentences=GUARANTEES,
        duties=DUTIES,
        problem=problem,
    )


def _steps(r: Mapping[str, Any]) -> dict[str, Any]:
    """How far a request is, for the signs of its chapters."""
    state, events = State(r["state"]), r["events"]
    refused = state == State.REFUSED or bool(r["refusal"])
    approved = _first(events, "approved")
    decided = _first(events, "refused") if refused else approved
    began = _first(events, "running")
    again = {True: "Run it again", False: "Run it now"}[state == State.FAILED]
    ending = state in states.ENDING
    word = "Close it, if nothing is left" if ending else again
    if state in (State.RUNNING, State.RESUMED):
        word = "Finish the repair"
    return {
        "waits": state in states.WAITING,
        "erased": r["version_after"] is not None,
        "refused": refused,
        "approved": approved is not None and not refused,
        "decided_by": decided["actor"] if decided else None,
        "decided_at": decided["at"] if decided else None,
        "four_eyes": bool(((approved or {}).get("detail") or {}).get("four_eyes")),
        "began_at": began["at"] if began else None,
        "models_done": state in states.WAY_OUT and not refused,
        "ending": ending,
        "can_run": "run" in r["can"],
        "run_word": word,
    }


def _first(events: Sequence[Mapping[str, Any]], target: str) -> Mapping[str, Any] | None:
    return next((e for e in events if e["to"] == target and e["from"] != target), None)


def _certificate(workspace: Workspace, request_id: str) -> dict[str, Any] | None:
    path = issued.path_of(workspace, request_id)
    try:
        return issued.predicate_of(path) if path.is_file() else None
    except InputError:
        return None  # damaged: verifying it says in what


def _model(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A model's entry with the figures that were measured before and after."""
    before, after = entry.get("metrics_before") or {}, entry.get("metrics_after") or {}
    both = [k for k in before if k in after and isinstance(before[k], float) and isinstance(after[k], float)]
    held_out = before.get("held_out", True) and after.get("held_out", True)
    return {**entry, "metrics": [(k, before[k], after[k]) for k in both[:MOST_METRICS]], "held_out": held_out}


def _auditable(r: Mapping[str, Any]) -> list[str]:
    return [m["model"] for m in r["outcome"] or [] if m["digest"]]


def _audit(workspace: Workspace, name: str) -> dict[str, Any]:
    report = desk.audit(workspace, name)
    return {**report, "name": name, "headline": in_plain_words(report).headline}


def _job(job: Job) -> dict[str, Any]:
    """A job as the page shows it before its first event."""
    now = job.progress or {}
    total, done = now.get("total"), now.get("done")
    share = min(done / total, 1.0) if total and done is not None else None
    parts = [now.get("label") or ("waiting" if job.state == jobs.QUEUED else "at work")]
    parts += [f"{100 * share:.0f} %"] if share is not None else []
    parts += [f"about {words.span(now['seconds_left'])} left"] if now.get("seconds_left") else []
    return {"id": job.id, "kind": job.kind, "state": job.state, "share": share, "words": ", ".join(parts)}
