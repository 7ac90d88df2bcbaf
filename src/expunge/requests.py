# SPDX-License-Identifier: Apache-2.0
"""The record of a request: what was done for which model, its certificate, and the originals that remain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import models as catalog
from expunge.catalog.datasets import get_version, load_erased
from expunge.catalog.forgetting import forget_rows, scrub
from expunge.catalog.models import Published
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.data.yolo import label_file
from expunge.errors import BusyError
from expunge.evidence import certificate
from expunge.exact.fingerprint import fingerprint
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.plan import load_plan
from expunge.progress import Progress

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

FINAL = ("exact", "audited")


def settle(workspace: Workspace, request_id: str, entries: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Bring a request's record and certificate to what is published now.

    Args:
        workspace: Where the request is known.
        request_id: Which request.
        entries: What was just done, by model; of the others what was recorded, or can be found again.

    Returns:
        The outcome, in the form of ``forget --json``.
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        if row.state == "closed" and not _rows_left(session, request_id):
            return dict(row.result or {})  # there is nothing that could change
        known = {k: getattr(row, k) for k in ("selection", "dataset_id", "version_after")}
        stored = dict(row.result or {})
        name = session.scalar(select(DatasetRow.name).where(DatasetRow.id == row.dataset_id))
        current = {p.name: p for p in catalog.live(session)}
    asked = known["selection"]
    new = {_name(m["model"]): m for m in entries or ()}
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
    closing = done and not left and not holders(workspace, request_id)
    outcome = {
        "request": request_id,
        "dataset": f"{name}@{known['version_after']}",
        "samples": asked["samples"],
        "models": models,
        "certificate": str(certificate.path_of(workspace, request_id)),
        "state": "executed" if done else "running",
        "originals_left": left,
    }
    if closing:
        _record(workspace, request_id, outcome)  # what is known only here outlives a crash from now on
        forget_rows(workspace, request_id)
        with contextlib.suppress(BusyError):  # somebody reads what is to be overwritten: not closed yet
            scrub(workspace)
            outcome["state"] = "closed"
    environment = _environment(workspace, models)
    certificate.issue(
        workspace,
        request_id,
        models=models,
        state=str(outcome["state"]),
        environment=environment,
        forgotten=outcome["state"] == "closed",
    )
    _record(workspace, request_id, outcome)
    return outcome


def settle_executed(workspace: Workspace, besides: str | None = None) -> None:
    """Close the requests that waited for nothing but originals, or for a model that their user left out.

    Those that an earlier version closed go with them: it had not let the catalog forget.
    """
    with workspace.session() as session:
        query = select(RequestRow.id, RequestRow.state).order_by(RequestRow.received)
        waiting = [
            request_id
            for request_id, state in session.execute(query)
            if state == "executed" or (state == "closed" and _rows_left(session, request_id))
        ]
    for request_id in waiting:
        if request_id != besides:
            settle(workspace, request_id, None)


def holders(workspace: Workspace, request_id: str) -> list[str]:
    """Return the live models that still hold what a request erased: those that its user left out, say.

    As long as there is one, the catalog must know the rows: how else could that model forget them?
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        after = row.version_after or 0
        live = [p for p in catalog.live(session, row.dataset_id) if p.dataset_version < after]
    return [p.name for p in live if _holds(workspace, p, request_id)]


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


def _record(workspace: Workspace, request_id: str, outcome: dict[str, Any]) -> None:
    with workspace.session(write=True) as session:
        row = catalog.get_request(session, request_id)
        row.result, row.state = outcome, str(outcome["state"])


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
    if not waits or now is None or now.guarantee not in FINAL:
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
    if now.guarantee in FINAL:
        return entry
    if now.plan_digest is None:  # adopted: there is nothing clean to show before the result
        return {**entry, "digest": None, "weights": None, "guarantee": "none"}
    shown = {k: entry[k] for k in ("model", "digest", "weights", "composition")}
    interim = {**shown, "seconds": None, "metrics": now.metrics}
    return {**entry, "digest": None, "weights": None, "interim": interim}


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
