# SPDX-License-Identifier: Apache-2.0
"""Finds checkpoints that neither a live model nor a pending repair needs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from expunge.catalog import ancestry, model_store
from expunge.errors import InputError
from expunge.exact.model import ErasableModel
from expunge.progress import Progress
from expunge.purge.kinds import Leftover, SkippedFile
from expunge.purge.tree import FileChanged, list_folder

if TYPE_CHECKING:
    from expunge.purge.context import PurgeContext

STATE = re.compile(rb"([0-9a-f]{64})\.(?:safetensors|partial)")
DRAFT = re.compile(rb"\..+\.tmp", re.DOTALL)


def checkpoints(context: PurgeContext) -> Iterator[Leftover]:
    """Yield the checkpoints of every model that are not part of its training on the retained data."""
    with context.workspace.session() as session:
        live = {p.name: p for p in model_store.newest_versions(session)}
        begun = {b.name: b for b in model_store.unpublished_trainings(session)}
        tainted = ancestry.tainted_plans(session)
    try:
        folders = list_folder(context.root, (b"checkpoints",)).folders
    except (OSError, FileChanged):
        return
    for folder in folders:
        name = os.fsdecode(folder.name)
        if name in context.busy:
            continue
        needed: set[str] = set()
        why = "no live model needs it"
        try:
            if name in live and live[name].plan_digest and not live[name].withdrawn:
                needed |= _keys(ErasableModel.open(context.workspace, live[name], Progress(quiet=True)))
        except InputError:
            context.left.append(
                SkippedFile(f"checkpoints of {name}", "its plan is missing or changed: restore it first")
            )
            continue
        try:
            if name in begun and begun[name].plan_digest not in tainted:
                unpublished = begun[name]
                ref = unpublished.dataset, unpublished.dataset_version
                model = ErasableModel.of_plan(
                    context.workspace, name, unpublished.plan_digest, ref, Progress(quiet=True)
                )
                needed |= _keys(model)
        except InputError:
            why = "of an unpublished training whose plan is missing: its training samples are unknown"
        try:
            found = list_folder(context.root, folder.names).files
        except (OSError, FileChanged):
            continue
        for entry in found:
            state = STATE.fullmatch(entry.name)
            if state and state.group(1).decode() not in needed:
                kind = "checkpoint" if name in live else "unpublished"
                yield Leftover(entry, kind, f"{why} ({name})")
            elif DRAFT.fullmatch(entry.name):
                yield Leftover(entry, "unpublished", f"an unfinished checkpoint of {name}")


def _keys(model: ErasableModel) -> set[str]:
    """Return the keys of all checkpoints of a model."""
    return {node.key for node in model.graph.nodes}
