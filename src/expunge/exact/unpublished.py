# SPDX-License-Identifier: Apache-2.0
"""Removal of checkpoints of trainings that were stopped before their first publication."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from expunge.catalog import ancestry, model_store
from expunge.errors import BusyError, InputError
from expunge.exact.model import ErasableModel
from expunge.exact.store import CheckpointStore
from expunge.progress import Progress
from expunge.storage.locks import model_lock

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def destroy_unpublished(workspace: Workspace, held: Container[str] = ()) -> None:
    """Delete checkpoints of never-published trainings that depend on erased samples.

    A running training is skipped, since it checks for erased samples itself before it publishes.

    Args:
        workspace: The workspace.
        held: Names of models whose locks the caller holds.
    """
    with workspace.session() as session:
        begun = model_store.unpublished_trainings(session)
        tainted = ancestry.tainted_plans(session) if begun else set()
    for training in begun:
        if training.name in held:
            _destroy_tainted(workspace, training, training.plan_digest in tainted)
            continue
        try:
            with model_lock(workspace.locks, training.name, "forget"):
                _destroy_tainted(workspace, training, training.plan_digest in tainted)
        except BusyError:
            continue


def _destroy_tainted(workspace: Workspace, training: model_store.UnpublishedTraining, tainted: bool) -> None:
    """Delete the checkpoints of a training that depend on erased samples; all if its start does."""
    ref = training.dataset, training.dataset_version
    try:
        model = ErasableModel.of_plan(
            workspace, training.name, training.plan_digest, ref, Progress(quiet=True)
        )
    except InputError:  # without its plan, the samples of its checkpoints are unknown
        store = CheckpointStore(workspace.checkpoints / training.name)
        needed = _published_keys(workspace, training)
        store.destroy([key for key in store.stored() if key not in needed])
    else:
        needed = _published_keys(workspace, training)
        model.destroy_stale(training.model_id, besides=needed)
        if tainted:
            model.store.destroy([key for key in model.store.stored() if key not in needed])


def _published_keys(workspace: Workspace, training: model_store.UnpublishedTraining) -> set[str]:
    """Return the checkpoint keys of the model's published version, which has a training of its own."""
    with workspace.session() as session:
        versions = [
            p
            for p in model_store.newest_versions(session)
            if p.name == training.name and p.plan_digest is not None
        ]
    try:
        models = [ErasableModel.open(workspace, p, Progress(quiet=True)) for p in versions]
    except InputError:
        return set()
    return {node.key for model in models for node in model.graph.nodes}
