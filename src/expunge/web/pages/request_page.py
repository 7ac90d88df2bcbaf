# SPDX-License-Identifier: Apache-2.0
"""The page of a request, from receipt to certificate, with the actions that are possible now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from expunge.catalog import states
from expunge.catalog.states import State
from expunge.erasure import intake
from expunge.errors import ExpungeError, InputError
from expunge.evidence import certificates
from expunge.evidence.report_page import DUTIES
from expunge.evidence.statement import GUARANTEES
from expunge.evidence.verdict_text import explain_verdict
from expunge.models.comparison import detector_pairs
from expunge.web import queries
from expunge.web.auth.access import Identity, allowed, workspace_of
from expunge.web.jobs import job_store
from expunge.web.pages import texts
from expunge.web.pages.queue import scope_context
from expunge.web.pages.view import go, page, problem_context

if TYPE_CHECKING:
    from expunge.web.jobs.job_store import Job
    from expunge.workspace import Workspace

router = APIRouter(prefix="/requests/{request_id}")
Text = Annotated[str, Form()]
MOST_METRICS = 4


@router.get("")
def show(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("desk.view"))]
) -> Response:
    """Show a request."""
    return _show(request, request_id, me)


@router.get("/scope")
def scope(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("desk.view"))]
) -> Response:
    """Show the effect and cost of executing a request. They are computed on each view: data may change."""
    workspace = workspace_of(request)
    try:
        preview = scope_context(queries.scope(workspace, request_id))
    except ExpungeError as error:
        preview = {"problem": problem_context(workspace, error)[1]}
    return page(request, "scope_page", active="requests", request_id=request_id, preview=preview)


@router.post("/approve")
def approve(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("requests.approve"))]
) -> Response:
    """Approve a request."""
    action = partial(intake.approve, workspace_of(request), request_id, me.name)
    return _change(request, request_id, me, "approved", action)


@router.post("/refuse")
def refuse(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("requests.refuse"))],
    reason: Text = "",
    note: Text = "",
    told: Text = "",
) -> Response:
    """Refuse a request, or record that the person was informed of the refusal."""
    details = reason or None, note.strip() or None, told or None
    action = partial(intake.refuse, workspace_of(request), request_id, *details, me.name)
    return _change(request, request_id, me, "closed" if told else "refused", action)


@router.post("/extend")
def extend(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("requests.extend"))],
    reason: Text = "",
    told: Text = "",
    months: Text = "",
) -> Response:
    """Extend the due date."""
    count = int(months) if months.isdecimal() and len(months) < 3 else None
    action = partial(intake.extend, workspace_of(request), request_id, reason, told, count, me.name)
    return _change(request, request_id, me, "extended", action)


@router.post("/tell")
def tell(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("requests.tell"))],
    recipient: Text = "",
    on: Text = "",
    why_not: Text = "",
) -> Response:
    """Record that a recipient was informed, or why not."""

    def action() -> None:
        if why_not not in ("", "impossible", "disproportionate"):
            raise InputError("That reason is unknown.", "Known: impossible, disproportionate.", "Choose one.")
        if len(recipient) > 200 or not recipient.isprintable():
            raise InputError("The recipient's name is too long or not text.", "", "Give a short name.")
        intake.record_recipient_notice(
            workspace_of(request), request_id, recipient, on or None, why_not or None, me.name
        )

    return _change(request, request_id, me, "recorded", action)


@router.post("/run")
def run(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("requests.run"))]
) -> Response:
    """Start a job that executes the request."""
    workspace = workspace_of(request)
    try:
        queries.check_runnable(workspace, [request_id])
    except ExpungeError as error:
        return _show(request, request_id, me, error)
    return start(request, request_id, job_store.RUN, {"requests": [request_id]}, me)


@router.post("/audit")
def audit(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("audits.run"))],
    model: Text = "",
    level: Text = "quick",
) -> Response:
    """Start a job that audits one of the request's models."""
    models = _auditable(queries.request_details(workspace_of(request), request_id))
    if model not in models or level not in ("quick", "standard", "full"):
        raise InputError(
            "There is no such audit.", f"Models of the request: {', '.join(models) or 'none'}.", ""
        )
    parameters = {"model": model, "request": request_id, "level": level}
    return start(request, request_id, job_store.AUDIT, parameters, me)


def _change(
    request: Request, request_id: str, me: Identity, notice: str, change: Callable[[], object]
) -> Response:
    """Call a change of the request, and return its page with a notice or with the error."""
    try:
        change()
    except ExpungeError as error:
        return _show(request, request_id, me, error)
    return go(f"/requests/{request_id}", notice)


def start(
    request: Request, request_id: str, kind: str, parameters: Mapping[str, Any], me: Identity
) -> Response:
    """Submit a job unless one of its kind is pending for the request, and return to the request's page."""
    workspace = workspace_of(request)
    pending = [j for j in job_store.of_request(workspace, request_id) if not j.ended and j.kind == kind]
    if not pending:
        request.app.state.supervisor.submit(kind, parameters, me.name)
    return go(f"/requests/{request_id}", "started")


def _show(request: Request, request_id: str, me: Identity, error: ExpungeError | None = None) -> Response:
    workspace = workspace_of(request)
    r = queries.request_details(workspace, request_id)
    status, problem = problem_context(workspace, error) if error is not None else (200, None)
    selection = queries.request_selection(workspace, request_id) if me.may("selection.view") else None
    jobs = job_store.of_request(workspace, request_id)
    active = next((j for j in jobs if not j.ended), None)
    s = _steps(r)
    compared = next((j for j in jobs if j.kind == job_store.COMPARE and j.state == job_store.DONE), None)
    return page(
        request,
        "request",
        status,
        active="requests",
        r=r,
        s={**s, "can_compare": s["erased"] and any(detector_pairs(workspace, request_id))},
        meaning=texts.MEANINGS.get(r["state"], ""),
        deadline=texts.deadline(r),
        selection=selection,
        note=selection["note"] if selection else None,
        certificate=_certificate(workspace, request_id),
        models=[_model(m) for m in r["outcome"] or []],
        originals=r["originals_left"],
        audits=[_audit(workspace, a["audit"]) for a in r["audits"]],
        auditable=_auditable(r) if r["state"] in (*states.RUNNING_STATES, *states.EXECUTED_STATES) else [],
        comparison=compared is not None,
        job=_job(active) if active else None,
        last_failed=jobs[0]
        if jobs and jobs[0].state == job_store.FAILED and r["state"] != "closed"
        else None,
        entries=queries.log_page(workspace, request=request_id, limit=50).items,
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
    """Return the progress of a request, as flags for the sections of its page."""
    state, events = State(r["state"]), r["events"]
    refused = state == State.REFUSED or bool(r["refusal"])
    approved = _first(events, "approved")
    decided = _first(events, "refused") if refused else approved
    started = _first(events, "running")
    run_label = "Run it again" if state == State.FAILED else "Run it now"
    ending = state in states.EXECUTED_STATES
    if ending:
        run_label = "Close it, if nothing is left"
    elif state in (State.RUNNING, State.RESUMED):
        run_label = "Finish the repair"
    return {
        "waits": state in states.WAITING_STATES,
        "erased": r["version_after"] is not None,
        "refused": refused,
        "approved": approved is not None and not refused,
        "decided_by": decided["actor"] if decided else None,
        "decided_at": decided["at"] if decided else None,
        "four_eyes": bool(((approved or {}).get("detail") or {}).get("four_eyes")),
        "began_at": started["at"] if started else None,
        "models_done": state in states.CLOSING_STATES and not refused,
        "ending": ending,
        "can_run": "run" in r["can"],
        "run_word": run_label,
    }


def _first(events: Sequence[Mapping[str, Any]], target: str) -> Mapping[str, Any] | None:
    return next((e for e in events if e["to"] == target and e["from"] != target), None)


def _certificate(workspace: Workspace, request_id: str) -> dict[str, Any] | None:
    path = certificates.path_of(workspace, request_id)
    try:
        return certificates.predicate_of(path) if path.is_file() else None
    except InputError:
        return None  # damaged; verification reports how


def _model(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's entry with its metrics before and after the erasure."""
    before, after = entry.get("metrics_before") or {}, entry.get("metrics_after") or {}
    names = [k for k in before if k in after and isinstance(before[k], float) and isinstance(after[k], float)]
    metrics = [(name, before[name], after[name]) for name in names[:MOST_METRICS]]
    held_out = before.get("held_out", True) and after.get("held_out", True)
    return {**entry, "metrics": metrics, "held_out": held_out}


def _auditable(r: Mapping[str, Any]) -> list[str]:
    return [m["model"] for m in r["outcome"] or [] if m["digest"]]


def _audit(workspace: Workspace, name: str) -> dict[str, Any]:
    report = queries.audit(workspace, name)
    return {**report, "name": name, "headline": explain_verdict(report).headline}


def _job(job: Job) -> dict[str, Any]:
    """Return a job as context for the template, before its first event."""
    progress = job.progress or {}
    total, done = progress.get("total"), progress.get("done")
    share = min(done / total, 1.0) if total and done is not None else None
    parts = [progress.get("label") or ("waiting" if job.state == job_store.QUEUED else "working")]
    parts += [f"{100 * share:.0f} %"] if share is not None else []
    parts += [f"about {texts.span(progress['seconds_left'])} left"] if progress.get("seconds_left") else []
    return {"id": job.id, "kind": job.kind, "state": job.state, "share": share, "words": ", ".join(parts)}
