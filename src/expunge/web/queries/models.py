# SPDX-License-Identifier: Apache-2.0
"""Queries for models and their lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expunge.catalog import model_store
from expunge.catalog.model_store import ModelVersion
from expunge.models import training

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def models(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the newest version of every model, by name, with the number of its versions."""
    with workspace.session() as session:
        found = model_store.model_versions(session)
    numbers: dict[str, int] = {}
    newest: dict[str, ModelVersion] = {}
    for p in found:
        numbers[p.name] = numbers.get(p.name, 0) + 1
        newest[p.name] = p
    return [{**_as_json(p), "versions": numbers[name]} for name, p in sorted(newest.items())]


def model(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return a model with all its versions, oldest first.

    Raises:
        NotFound: If the model does not exist.
        InputError: If the name is malformed.
    """
    exports = {
        row["model"]: [{k: e[k] for k in ("format", "created") if k in e} for e in row["exports"]]
        for row in training.describe(workspace, name)
    }
    with workspace.session() as session:
        found = model_store.model_versions(session, name.partition("@")[0])
    versions = [{**_as_json(p), "exports": exports[p.label]} for p in found]
    return {"model": found[-1].name, "task": found[-1].task, "versions": versions}


def _as_json(p: ModelVersion) -> dict[str, Any]:
    return {
        "model": p.label,
        "name": p.name,
        "version": p.number,
        "parent": f"{p.name}@{p.parent}" if p.parent else None,
        "task": p.task,
        "dataset": f"{p.dataset}@{p.dataset_version}",
        "state": p.state,
        "guarantee": p.guarantee,
        "method": p.method,
        "digest": p.digest,
        "samples": p.samples,
        "subjects": p.subjects,
        "metrics": p.metrics,
        "cost": p.cost,
        "cpu_seconds": p.cpu_seconds,
        "request": p.request_id,
        "plan": p.plan_digest,
        "created": p.created,
    }
