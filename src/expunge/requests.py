# SPDX-License-Identifier: Apache-2.0
"""The record of a request: what was done for which model, its certificate, and the originals that remain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import models as catalog
from expunge.catalog import requests as queue
from expunge.catalog.models import Published
from expunge.catalog.states import State
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.data.yolo import label_file
from expunge.errors import ExpungeError
from expunge.evidence import certificate
from expunge.exact.fingerprint import fingerprint
from expunge.exact.model import plan_file
from expunge.exact.plan import load_plan

if TYPE_CHECKING:
    from expunge.workspace import Workspace

FINAL = ("exact", "audited")
ACTOR = "expunge"  # who takes the steps that follow from what was done


def settle(
    workspace: Workspace, request_id: str, entries: list[dict[str, Any]] | None, *, resumed: bool = False
) -> dict[str, Any]:
    """Bring a request's record and certificate to what is published now.

    All transitions become durable in one transaction, after the certificate: a process killed before it
    leaves a request that is taken up again, and the same certificate is written once more.

    Args:
        workspace: Where the request is known.
        request_id: Which request.
        entries: What was just done, by model; of the others what was recorded, or can be found again.
        resumed: The request was taken up again, after it waited or its process died.

    Returns:
        The outcome, in the form of ``forget --json``.
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        if row.state == State.CLOSED and row.result:
            return dict(row.result)
        known = {k: getattr(row, k) for k in ("selection", "method", "version_before", "version_after")}
        received, stored = row.received.isoformat(timespec="seconds"), dict(row.result or {})
        name = session.scalar(select(DatasetRow.name).where(DatasetRow.id == row.dataset_id))
        current = {p.name: p for p in catalog.live(session)}
    asked = known["selection"]
    new = {_name(m["model"]): m for m in entries or () if _name(m["model"]) in asked["models"]}
    known_names = [_name(m["model"]) for m in stored.get("models", [])]
    models = [m for m in stored.get("models", []) if _name(m["model"]) not in new]
    models = sorted([*models, *new.values()], key=lambda m: _position(known_names, _name(m["model"])))
    present = {_name(m["model"]) for m in models}
    models = [_refreshed(workspace, m, current.get(_name(m["model"]))) for m in models]
    models += [
        _recovered(workspace, current[n]) for n in asked["models"] if n not in present and n in current
    ]
    left = sum(1 for _ in originals(workspace, request_id))
    done = all(m["digest"] and m.get("accepted", True) for m in models)
    state = "running" if not done else "executed" if left else "closed"
    before, after = f"{name}@{known['version_before']}", f"{name}@{known['version_after']}"
    path = workspace.certificates / f"{request_id}.json"
    statement = certificate.build(
        request=request_id,
        received=received,
        method=known["method"],
        dataset_before=before,
        dataset_after=after,
        samples=asked["samples"],
        subjects=asked["subjects"],
        models=[{**m, "cost": {k: m[f"cost_{k}"] for k in ("predicted", "measured")}} for m in models],
        environment=_environment(workspace, models),
        state=state,
    )
    certificate.save(path, statement)
    outcome = {
        "request": request_id,
        "dataset": after,
        "samples": asked["samples"],
        "models": models,
        "certificate": str(path),
        "state": state,
        "originals_left": left,
    }
    with workspace.session(write=True) as session:
        row, at = catalog.get_request(session, request_id), workspace.clock()
        cut_short = row.state == State.RUNNING and not row.result
        if resumed and (cut_short or row.state == State.FAILED):
            queue.move(session, row, State.RESUMED, at, ACTOR)
        finished = {m["model"] for m in (row.result or {}).get("models", []) if m["digest"]}
        for m in models:
            if m["digest"] and m.get("accepted", True) and m["model"] not in finished:
                told = {k: m[k] for k in ("model", "method", "guarantee")}
                queue.note(session, row, at, ACTOR, "model", told)
        if done:
            target = State.EXECUTED if left else State.CLOSED
            verdicts = {m["model"]: m["verdict"] or "exact" for m in models}
            details: dict[State, dict[str, Any]] = {
                State.EXECUTED: {"originals": left},
                State.AUDITED: {"verdicts": verdicts},
            }
            queue.advance(session, row, target, at, ACTOR, details)
        row.result = outcome
    return outcome


def fail(workspace: Workspace, request_ids: Iterable[str], error: Exception) -> None:
    """Record that requests could not be finished; only the error's kind, as its words may be personal.

    Where even that cannot be recorded they stay as they are, and are taken up again all the same.
    """
    with contextlib.suppress(ExpungeError), workspace.session(write=True) as session:
        for request_id in request_ids:
            row = catalog.get_request(session, request_id)
            if row.state in (State.APPROVED, State.RUNNING, State.RESUMED):
                queue.move(session, row, State.FAILED, workspace.clock(), ACTOR, type(error).__name__[:40])


def originals(workspace: Workspace, request_id: str) -> Iterator[Path]:
    """Yield the files of a request's samples that are still in the user's own folder.

    Not those that a retained sample has now: a new image under an old name, a label that two images share.
    """
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        if row is None:
            return
        root = Path(session.get_one(DatasetRow, row.dataset_id).root)
        erased = select(SampleRow.path, SampleRow.label_digest).where(SampleRow.request_id == request_id)
        files: set[Path] = set()
        for path, label_digest in session.execute(erased):
            stem = path.rpartition(".")[0]
            beside = select(SampleRow.path).where(
                SampleRow.dataset_id == row.dataset_id,
                SampleRow.removed.is_(None),
                SampleRow.path.between(f"{stem}.", f"{stem}/"),
            )
            retained, label = set(session.scalars(beside)), label_file(root, path)
            if path not in retained:
                files.add(root / path)
            if label_digest and label not in {label_file(root, other) for other in retained}:
                files.add(label)
    yield from (file for file in sorted(files) if file.is_symlink() or file.is_file())


def delete_originals(workspace: Workspace, request_id: str) -> int:
    """Delete a request's images and labels from the user's folder; returns how many could be deleted.

    Of a link to a file the link itself; nothing that lies elsewhere, behind a link to a folder.
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        root = Path(session.get_one(DatasetRow, row.dataset_id).root).resolve()
    count = 0
    for file in list(originals(workspace, request_id)):
        if file.parent.resolve().is_relative_to(root):
            with contextlib.suppress(OSError):  # what stays is counted as left
                file.unlink()
                count += 1
    return count


def _position(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _name(label: str) -> str:
    return str(label).partition("@")[0]


def _refreshed(workspace: Workspace, entry: dict[str, Any], now: Published | None) -> dict[str, Any]:
    """An entry whose repair was pending, once a later training has published the final model."""
    waits = not entry["digest"] or not entry.get("accepted", True)
    if not waits or now is None or not _final(now):
        return entry
    measured = (now.cost or {}).get("measured")
    final = {"cost_measured": measured, "metrics_after": now.metrics, "accepted": True}
    return {**entry, **_published(workspace, now), **final}


def _recovered(workspace: Workspace, now: Published) -> dict[str, Any]:
    """The entry of a request whose command was killed before it could record one."""
    with workspace.session() as session:
        parent = [p for p in catalog.history(session, now.name) if p.number == now.parent]
    entry = {
        "parent": parent[0].label if parent else None,
        "parent_digest": parent[0].digest if parent else None,
        "method": now.method,
        "plan": now.plan_digest,
        "cost_predicted": (now.cost or {}).get("predicted"),
        "cost_measured": (now.cost or {}).get("measured"),
        "metrics_before": parent[0].metrics if parent else None,
        "metrics_after": now.metrics,
        "verdict": None,
        "interim": None,
        **_published(workspace, now),
    }
    if _final(now):
        return entry
    if now.plan_digest is None:  # adopted: there is nothing clean to show before the result
        return {**entry, "digest": None, "weights": None, "guarantee": "none"}
    shown = {k: entry[k] for k in ("model", "digest", "weights", "composition")}
    interim = {**shown, "seconds": None, "metrics": now.metrics}
    return {**entry, "digest": None, "weights": None, "interim": interim}


def _final(now: Published) -> bool:
    """Whether a model's newest version is a result; one that was withdrawn until the repair is none."""
    return now.guarantee in FINAL and now.state != "superseded"


def _published(workspace: Workspace, now: Published) -> dict[str, Any]:
    return {
        "model": now.label,
        "digest": now.digest,
        "weights": str(workspace.root / now.weights),
        "guarantee": now.guarantee,
        "composition": now.composition,
    }


def _environment(workspace: Workspace, models: list[dict[str, Any]]) -> dict[str, Any]:
    plans = {m["plan"] for m in models if m.get("plan")}
    made = [load_plan(plan_file(workspace, digest)) for digest in sorted(plans)]
    return {digest: fingerprint(p.threads, p.isa) for digest, p in zip(sorted(plans), made, strict=True)}
