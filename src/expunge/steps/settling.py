# SPDX-License-Identifier: Apache-2.0
"""Settles a request: its record, what the catalog still knows of it, its certificate and its events."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import models as catalog
from expunge.catalog import requests as queue
from expunge.catalog.datasets import get_version, load_erased
from expunge.catalog.decisions import forget_decisions
from expunge.catalog.forgetting import forget_rows, scrub
from expunge.catalog.models import WITHDRAW, Published
from expunge.catalog.states import State
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.data.findings import delete_lists
from expunge.duplicates import forget_hashes
from expunge.errors import BusyError, ExpungeError, InputError
from expunge.evidence import certificate, journal
from expunge.exact.model import ErasableModel
from expunge.progress import Progress
from expunge.queue import attempts
from expunge.queue.originals import datasets_with_same_bytes, originals, unknown_roots
from expunge.steps import descent
from expunge.steps.copies import copies
from expunge.steps.entries import environment, finished, gather

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

ACTOR = "expunge"  # who takes the steps that follow from what was done


def settle(
    workspace: Workspace, request_id: str, entries: list[dict[str, Any]] | None, *, resumed: bool = False
) -> dict[str, Any]:
    """Bring a request's record and certificate to what is published now.

    What is known only here is recorded first; then the catalog forgets, the certificate is written, and the
    request is closed. A process killed in between leaves a request that is taken up again.

    Args:
        workspace: Where the request is known.
        request_id: Which request.
        entries: What was just done, by model; of the others what was recorded, or can be found again.
        resumed: The request was taken up again, after it waited or its process died.

    Returns:
        The outcome, in the form of ``forget --json``.
    """
    journal.flush(workspace)  # what a process that died had no time to tell goes before what comes now
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        if row.state == State.CLOSED and not _rows_left(session, request_id):
            return dict(row.result or {})  # there is nothing that could change
        asked, after, stored = row.selection, row.version_after, dict(row.result or {})
        name = session.scalar(select(DatasetRow.name).where(DatasetRow.id == row.dataset_id))
        current = {p.name: p for p in catalog.live(session)}
    held = holders(workspace, request_id)
    models = gather(workspace, asked["models"], stored.get("models", []), entries or [], current, held)
    left = sum(1 for _ in originals(workspace, request_id))
    done = all(finished(m) for m in models)
    outcome = {
        "request": request_id,
        "dataset": f"{name}@{after}",
        "samples": asked["samples"],
        "models": models,
        "certificate": str(certificate.path_of(workspace, request_id)),
        "state": "executed" if done else "running",
        "originals_left": left,
        "originals_unknown": unknown_roots(workspace, request_id),
        "same_bytes_in": datasets_with_same_bytes(workspace, request_id),
    }
    if done and not left and not held:
        _record(workspace, request_id, outcome, resumed)
        forget_rows(workspace, request_id)
        forget_hashes(workspace)
        delete_lists()
        with workspace.session(write=True) as session:
            forget_decisions(session)
        with contextlib.suppress(BusyError):  # somebody reads what is to be overwritten: not closed yet
            scrub(workspace)
            outcome["state"] = "closed"
    _certify(workspace, request_id, outcome)
    _record(workspace, request_id, outcome, resumed, entries or ())
    return outcome


def certify_again(workspace: Workspace, request_id: str) -> Path:
    """Sign the certificate of a request anew, where there is more to say than when it was signed last.

    Raises:
        InputError: If the request was not executed.
    """
    with workspace.session() as session:
        outcome = dict(catalog.get_request(session, request_id).result or {})
    if not outcome:
        raise InputError(
            f"{request_id} was not executed.",
            "Nothing was certified yet.",
            f"Run it with: expunge request run {request_id}",
        )
    return _certify(workspace, request_id, outcome)


def _certify(workspace: Workspace, request_id: str, outcome: dict[str, Any]) -> Path:
    with workspace.session() as session:
        known = copies(workspace, session, [request_id])[request_id]
    return certificate.issue(
        workspace,
        request_id,
        models=outcome["models"],
        state=str(outcome["state"]),
        environment=environment(workspace, outcome["models"]),
        forgotten=outcome["state"] == "closed",
        purged=known.purged,
        deployments=known.deployments,
        originals={
            "left": outcome["originals_left"],
            "folders_not_reachable": outcome.get("originals_unknown", 0),
            "same_bytes_in": outcome.get("same_bytes_in", []),
        },
    )


def _record(
    workspace: Workspace,
    request_id: str,
    outcome: dict[str, Any],
    resumed: bool,
    tried: Sequence[dict[str, Any]] = (),
) -> None:
    """Make an outcome durable, with every transition that it means, in one transaction."""
    with workspace.session(write=True) as session:
        row, at = catalog.get_request(session, request_id), workspace.clock()
        cut_short = row.state == State.RUNNING and not row.result
        if resumed and (cut_short or row.state == State.FAILED):
            queue.move(session, row, State.RESUMED, at, ACTOR)
        models = outcome["models"]
        before = (row.result or {}).get("models", [])
        known = {m["model"] for m in before if m["digest"] or finished(m)}
        for m in models:
            if finished(m) and m["model"] not in known:
                told = {k: m[k] for k in ("model", "method", "guarantee")}
                queue.note(session, row, at, ACTOR, "model", told)
        mine = [m for m in tried if m["parent"].partition("@")[0] in row.selection["models"]]
        attempts.record(session, row, mine, at, ACTOR, workspace.settings.audit.attempts)
        if outcome["state"] != "running":
            target = State.CLOSED if outcome["state"] == "closed" else State.EXECUTED
            verdicts = {m["model"]: m["verdict"] or _short_verdict(m) for m in models}
            details: dict[State, dict[str, Any]] = {
                State.EXECUTED: {"originals": outcome["originals_left"]},
                State.AUDITED: {"verdicts": verdicts},
            }
            queue.advance(session, row, target, at, ACTOR, details)
        row.result = outcome


def _short_verdict(entry: dict[str, Any]) -> str:
    return "withdrawn" if entry["method"] == WITHDRAW else "exact"


def settle_executed(workspace: Workspace, besides: Container[str] = ()) -> None:
    """Close the requests that waited for nothing but originals, or for a model that their user left out.

    Those that an earlier version closed go with them: it had not let the catalog forget.
    """
    with workspace.session() as session:
        query = select(RequestRow.id, RequestRow.state).order_by(RequestRow.received)
        waiting = [
            request_id
            for request_id, state in session.execute(query)
            if state == State.EXECUTED or (state == State.CLOSED and _rows_left(session, request_id))
        ]
    for request_id in waiting:
        if request_id not in besides:
            settle(workspace, request_id, None)


def holders(workspace: Workspace, request_id: str) -> list[str]:
    """Return the live models that still hold what a request erased: those that its user left out, say.

    A model that descends from one that saw it holds it too, whatever its own data.

    As long as there is one, the catalog must know the rows: how else could that model forget them?
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        after = row.version_after or 0
        live = [p for p in catalog.live(session, row.dataset_id) if p.dataset_version < after]
        heirs = descent.descents_of(workspace, session, row.dataset_id, request_id)
    own = [p for p in live if not p.withdrawn and p.name not in heirs]
    return [p.name for p in own if _holds(workspace, p, request_id)] + list(heirs)


def _rows_left(session: Session, request_id: str) -> bool:
    """Whether the catalog still knows what a request erased."""
    query = select(SampleRow.id).where(SampleRow.request_id == request_id, SampleRow.removal == "erased")
    return session.scalar(query.limit(1)) is not None


def _holds(workspace: Workspace, published: Published, request_id: str) -> bool:
    if published.plan_digest is not None:
        model = ErasableModel.open(workspace, published, Progress(quiet=True))
        return model.retained != published.retained_digest
    with workspace.session() as session:
        version = get_version(session, published.dataset, published.dataset_version)
        erased = load_erased(session, version)
    saw = any(by == request_id and sample.split == "train" for sample, by in erased)
    return saw and request_id not in (published.composition or {}).get("forgotten", [])


def fail(workspace: Workspace, request_ids: Iterable[str], error: Exception) -> None:
    """Record that requests could not be finished; only the error's kind, as its words may be personal.

    Where even that cannot be recorded they stay as they are, and are taken up again all the same.
    """
    with contextlib.suppress(ExpungeError), workspace.session(write=True) as session:
        for request_id in request_ids:
            row = catalog.get_request(session, request_id)
            if row.state in (State.APPROVED, State.RUNNING, State.RESUMED):
                queue.move(session, row, State.FAILED, workspace.clock(), ACTOR, type(error).__name__[:40])
