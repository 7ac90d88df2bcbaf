# SPDX-License-Identifier: Apache-2.0
"""Trainings that were killed before anything was published: their checkpoints saw people all the same."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from expunge.catalog import ancestry
from expunge.catalog import models as catalog
from expunge.catalog.locks import model_lock
from expunge.errors import BusyError, InputError
from expunge.exact.model import ErasableModel
from expunge.exact.store import CheckpointStore
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def destroy_unpublished(workspace: Workspace, held: Container[str] = ()) -> None:
    """Delete, of trainings that were never published, the checkpoints that saw what is erased by now.

    One that is still running is left alone: before it publishes, it finds out by itself.

    Args:
        workspace: Where they were begun.
        held: Names of models whose locks the caller holds.
    """
    with workspace.session() as session:
        begun = catalog.unpublished(session)
        tainted = ancestry.tainted_plans(session) if begun else set()
    for training in begun:
        if training.name in held:
            _clean(workspace, training, training.plan_digest in tainted)
            continue
        try:
            with model_lock(workspace.locks, training.name, "forget"):
                _clean(workspace, training, training.plan_digest in tainted)
        except BusyError:
            continue


def _clean(workspace: Workspace, training: catalog.Begun, tainted: bool) -> None:
    """Destroy its checkpoints that saw what is erased: all of them where its start did."""
    ref = training.dataset, training.dataset_version
    try:
        model = ErasableModel.of_plan(
            workspace, training.name, training.plan_digest, ref, Progress(quiet=True)
        )
    except InputError:  # without its plan nobody can tell what its checkpoints saw
        store, needed = (
            CheckpointStore(workspace.checkpoints / training.name),
            _published(workspace, training),
        )
        store.destroy([key for key in store.stored() if key not in needed])
    else:
        needed = _published(workspace, training)
        model.destroy_stale(training.model_id, besides=needed)
        if tainted:
            model.store.destroy([key for key in model.store.stored() if key not in needed])


def _published(workspace: Workspace, training: catalog.Begun) -> set[str]:
    """Keys of what the model's published version goes on from: that one was trained otherwise, before."""
    with workspace.session() as session:
        found = [p for p in catalog.live(session) if p.name == training.name and p.plan_digest is not None]
    try:
        models = [ErasableModel.open(workspace, p, Progress(quiet=True)) for p in found]
    except InputError:
        return set()
    return {node.key for model in models for node in model.graph.nodes}
