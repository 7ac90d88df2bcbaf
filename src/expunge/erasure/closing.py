# SPDX-License-Identifier: Apache-2.0
"""Step 7 of a request: record its outcome, let the catalog forget, issue the certificate, close it."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import model_store, request_store
from expunge.catalog.dataset_store import get_version, load_erased
from expunge.catalog.decisions import forget_decisions
from expunge.catalog.model_store import WITHDRAW, ModelVersion
from expunge.catalog.states import State
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.data.findings import delete_lists
from expunge.datasets.near_duplicates import forget_hashes
from expunge.erasure import holds
from expunge.erasure.catalog_rows import forget_rows, scrub
from expunge.erasure.descent import descents_after_erasure
from expunge.erasure.model_results import build_model_results, environment, finished
from expunge.errors import BusyError, ExpungeError, InputError
from expunge.evidence import certificates, journal
from expunge.exact.model import ErasableModel
from expunge.progress import Progress
from expunge.purge.copies import copies
from expunge.purge.originals import datasets_with_same_bytes, find_originals, unknown_roots
from expunge.storage.locks import closing_lock

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

ACTOR = "expunge"  # recorded as the actor of automatic transitions


def close_request(
    workspace: Workspace, request_id: str, entries: list[dict[str, Any]] | None, *, resumed: bool = False
) -> dict[str, Any]:
    """Update the record and the certificate of a request, and close it if nothing is left to do.

    The outcome is recorded first, then the catalog forgets, the certificate is written, and the request is
    closed. If the process is killed in between, a later run repeats the remaining steps.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        entries: New results of its models; None: none. Results of other models are taken from the record, or
            recovered from the catalog.
        resumed: Whether the request was resumed after it waited or its process died.

    Returns:
        The outcome, in the form of ``forget --json``.
    """
    with closing_lock(workspace.locks):
        return _close(workspace, request_id, entries, resumed)


def _close(
    workspace: Workspace, request_id: str, entries: list[dict[str, Any]] | None, resumed: bool
) -> dict[str, Any]:
    """Close a request under the lock; arguments as of :func:`close_request`."""
    journal.flush(workspace)  # events left by a crashed run are flushed first
    with workspace.session() as session:
        row = model_store.get_request(session, request_id)
        if row.state == State.CLOSED and not _rows_left(session, request_id):
            return dict(row.result or {})  # its outcome is final
        selection, after, stored = row.selection, row.version_after, dict(row.result or {})
        name = session.scalar(select(DatasetRow.name).where(DatasetRow.id == row.dataset_id))
        current = {p.name: p for p in model_store.newest_versions(session)}
    holding = models_holding(workspace, request_id)
    models = build_model_results(
        workspace, selection["models"], stored.get("models", []), entries or [], current, holding
    )
    originals_left = sum(1 for _ in find_originals(workspace, request_id))
    done = all(finished(m) for m in models)
    outcome = {
        "request": request_id,
        "dataset": f"{name}@{after}",
        "samples": selection["samples"],
        "models": models,
        "certificate": str(certificates.path_of(workspace, request_id)),
        "state": "executed" if done else "running",
        "originals_left": originals_left,
        "originals_unknown": unknown_roots(workspace, request_id),
        "same_bytes_in": datasets_with_same_bytes(workspace, request_id),
    }
    if done and not originals_left and not holding:
        _record(workspace, request_id, outcome, resumed)
        forget_rows(workspace, request_id)
        forget_hashes(workspace)
        delete_lists()
        with workspace.session(write=True) as session:
            forget_decisions(session)
        with contextlib.suppress(BusyError):  # another process reads the catalog: a later run closes it
            scrub(workspace)
            outcome["state"] = "closed"
    _certify(workspace, request_id, outcome)
    _record(workspace, request_id, outcome, resumed, entries or ())
    return outcome


def reissue_certificate(workspace: Workspace, request_id: str) -> Path:
    """Issue the certificate of a request again with the present facts; return its path.

    Raises:
        InputError: If the request was not executed.
    """
    with workspace.session() as session:
        outcome = dict(model_store.get_request(session, request_id).result or {})
    if not outcome:
        raise InputError(
            f"{request_id} was not executed.",
            "It has no certificate yet.",
            f"Run it with: expunge request run {request_id}",
        )
    with closing_lock(workspace.locks):
        return _certify(workspace, request_id, outcome)


def _certify(workspace: Workspace, request_id: str, outcome: dict[str, Any]) -> Path:
    """Issue the certificate for an outcome and return its path."""
    with workspace.session() as session:
        inventory = copies(workspace, session, [request_id])[request_id]
    return certificates.issue(
        workspace,
        request_id,
        models=outcome["models"],
        state=str(outcome["state"]),
        environment=environment(workspace, outcome["models"]),
        forgotten=outcome["state"] == "closed",
        purged=inventory.purged,
        deployments=inventory.deployments,
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
    attempts: Sequence[dict[str, Any]] = (),
) -> None:
    """Store an outcome and the state transitions that follow from it, in one transaction.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        outcome: Its outcome.
        resumed: Whether the request was resumed.
        attempts: New results of models, of which rejected ones are counted.
    """
    with workspace.session(write=True) as session:
        row, at = model_store.get_request(session, request_id), workspace.clock()
        interrupted = row.state == State.RUNNING and not row.result
        if resumed and (interrupted or row.state == State.FAILED):
            request_store.change_state(session, row, State.RESUMED, at, ACTOR)
        models = outcome["models"]
        before = (row.result or {}).get("models", [])
        known = {m["model"] for m in before if m["digest"] or finished(m)}
        for m in models:
            if finished(m) and m["model"] not in known:
                detail = {k: m[k] for k in ("model", "method", "guarantee")}
                request_store.record_note(session, row, at, ACTOR, "model", detail)
        own = [m for m in attempts if m["parent"].partition("@")[0] in row.selection["models"]]
        holds.record(session, row, own, at, ACTOR, workspace.settings.audit.attempts)
        if outcome["state"] != "running":
            target = State.CLOSED if outcome["state"] == "closed" else State.EXECUTED
            verdicts = {m["model"]: m["verdict"] or _verdict_without_audit(m) for m in models}
            details: dict[State, dict[str, Any]] = {
                State.EXECUTED: {"originals": outcome["originals_left"]},
                State.AUDITED: {"verdicts": verdicts},
            }
            request_store.advance(session, row, target, at, ACTOR, details)
        row.result = outcome


def _verdict_without_audit(entry: dict[str, Any]) -> str:
    """Return the verdict to record for a result that needs no audit."""
    return "withdrawn" if entry["method"] == WITHDRAW else "exact"


def close_executed(workspace: Workspace, besides: Container[str] = ()) -> None:
    """Close executed requests that waited for originals, or for a model that was left out.

    Closed requests whose rows are still in the catalog, left by an earlier release, are forgotten too.

    Args:
        workspace: The workspace of the requests.
        besides: Ids of requests to skip.
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
            close_request(workspace, request_id, None)


def models_holding(workspace: Workspace, request_id: str) -> list[str]:
    """Return the names of the live models that still hold data erased by a request.

    Models that the request left out may hold it, and so may descendants of models that were trained on it.
    While there is one, the catalog must keep the erased rows, which the model's repair needs.
    """
    with workspace.session() as session:
        row = model_store.get_request(session, request_id)
        after = row.version_after or 0
        live = [p for p in model_store.newest_versions(session, row.dataset_id) if p.dataset_version < after]
        descents = descents_after_erasure(workspace, session, row.dataset_id, request_id)
    candidates = [p for p in live if not p.withdrawn and p.name not in descents]
    return [p.name for p in candidates if _holds(workspace, p, request_id)] + list(descents)


def _rows_left(session: Session, request_id: str) -> bool:
    """Return whether the catalog still has rows that a request erased."""
    query = select(SampleRow.id).where(SampleRow.request_id == request_id, SampleRow.removal == "erased")
    return session.scalar(query.limit(1)) is not None


def _holds(workspace: Workspace, published: ModelVersion, request_id: str) -> bool:
    """Return whether a model was trained on data that a request erased."""
    if published.plan_digest is not None:
        model = ErasableModel.open(workspace, published, Progress(quiet=True))
        return model.retained != published.retained_digest
    with workspace.session() as session:
        version = get_version(session, published.dataset, published.dataset_version)
        erased = load_erased(session, version)
    saw = any(by == request_id and sample.split == "train" for sample, by in erased)
    return saw and request_id not in (published.composition or {}).get("forgotten", [])


def fail(workspace: Workspace, request_ids: Iterable[str], error: Exception) -> None:
    """Move requests to ``failed``, with the class name of the error.

    The error's text is not recorded, since it may contain personal data. If the catalog cannot be written,
    the requests keep their state; a later run resumes them all the same.
    """
    with contextlib.suppress(ExpungeError), workspace.session(write=True) as session:
        for request_id in request_ids:
            row = model_store.get_request(session, request_id)
            if row.state in (State.APPROVED, State.RUNNING, State.RESUMED):
                request_store.change_state(
                    session, row, State.FAILED, workspace.clock(), ACTOR, type(error).__name__[:40]
                )
