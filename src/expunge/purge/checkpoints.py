# SPDX-License-Identifier: Apache-2.0
"""Training states that no live model needs, and no repair that is still to come."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from expunge.catalog import ancestry
from expunge.catalog import models as catalog
from expunge.errors import InputError
from expunge.exact.model import ErasableModel
from expunge.progress import Progress
from expunge.purge.kinds import Left, Leftover
from expunge.purge.tree import Changed, listing

if TYPE_CHECKING:
    from expunge.purge.find import Look

STATE = re.compile(rb"([0-9a-f]{64})\.(?:safetensors|partial)")
DRAFT = re.compile(rb"\..+\.tmp", re.DOTALL)


def checkpoints(at: Look) -> Iterator[Leftover]:
    """Yield the states of every model that are not part of its training on what is retained now."""
    with at.workspace.session() as session:
        live = {p.name: p for p in catalog.live(session)}
        begun = {b.name: b for b in catalog.unpublished(session)}
        tainted = ancestry.tainted_plans(session)
    try:
        folders = listing(at.root, (b"checkpoints",)).folders
    except (OSError, Changed):
        return
    for folder in folders:
        name = os.fsdecode(folder.name)
        if name in at.busy:
            continue
        needed: set[str] = set()
        why = "no live model needs it"
        try:
            if name in live and live[name].plan_digest and not live[name].withdrawn:
                needed |= _keys(at, ErasableModel.open(at.workspace, live[name], Progress(quiet=True)))
        except InputError:
            at.left.append(Left(f"checkpoints of {name}", "its plan is missing or changed: restore it first"))
            continue
        try:
            if name in begun and begun[name].plan_digest not in tainted:
                b = begun[name]
                ref = b.dataset, b.dataset_version
                begun_model = ErasableModel.of_plan(
                    at.workspace, name, b.plan_digest, ref, Progress(quiet=True)
                )
                needed |= _keys(at, begun_model)
        except InputError:
            why = "of an unpublished training whose plan is missing: nobody can tell what it saw"
        try:
            found = listing(at.root, folder.names).files
        except (OSError, Changed):
            continue
        for entry in found:
            state = STATE.fullmatch(entry.name)
            if state and state.group(1).decode() not in needed:
                kind = "checkpoint" if name in live else "unpublished"
                yield Leftover(entry, kind, f"{why} ({name})")
            elif DRAFT.fullmatch(entry.name):
                yield Leftover(entry, "unpublished", f"a state of {name} that was never finished")


def _keys(at: Look, model: ErasableModel) -> set[str]:
    return {node.key for node in model.graph.nodes}
