# SPDX-License-Identifier: Apache-2.0
"""Trainings that were killed before anything was published: their checkpoints saw people all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.catalog import models as catalog
from expunge.catalog.locks import model_lock
from expunge.errors import BusyError, InputError
from expunge.exact.model import ErasableModel
from expunge.exact.store import CheckpointStore
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def destroy_unpublished(workspace: Workspace) -> None:
    """Delete, of trainings that were never published, the checkpoints that saw what is erased by now.

    One that is still running is left alone: before it publishes, it finds out by itself.
    """
    with workspace.session() as session:
        begun = catalog.unpublished(session)
    for training in begun:
        try:
            with model_lock(workspace.locks, training.name, "forget"):
                _clean(workspace, training)
        except BusyError:
            continue


def _clean(workspace: Workspace, training: catalog.Begun) -> None:
    ref = training.dataset, training.dataset_version
    try:
        model = ErasableModel.of_plan(
            workspace, training.name, training.plan_digest, ref, Progress(quiet=True)
        )
    except InputError:  # without its plan nobody can tell what its checkpoints saw
        store = CheckpointStore(workspace.checkpoints / training.name)
        store.destroy(store.stored())
    else:
        model.destroy_stale(training.model_id)
