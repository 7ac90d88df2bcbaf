# SPDX-License-Identifier: Apache-2.0
"""Whether a model's checkpoints were made with the arithmetic of this environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from expunge.catalog import models as catalog
from expunge.exact.fingerprint import MEASURED, arithmetic, difference, environment_changed, named_difference
from expunge.exact.runner import Training, measure_here, repeat
from expunge.exact.store import CheckpointStore

if TYPE_CHECKING:
    from expunge.catalog.tables import CheckpointRow
    from expunge.exact.model import ErasableModel

_measured: dict[str, str] = {}  # by plan: the environment of a process does not change


def check(model: ErasableModel, model_id: int, measure: bool) -> None:
    """Refuse to mix checkpoints of another environment with new ones.

    What is known to matter must be equal. Where only the processor, variables or builds differ, or
    ``measure`` is set, the arithmetic is measured in a training process and decides.

    Raises:
        EnvironmentChanged: With what differs.
    """
    rows = _rows(model, model_id)
    for row in rows:
        if changed := difference(row.fingerprint, model.fingerprint):
            raise environment_changed(model.name, changed)
    if measure and rows:
        confirm_old(model, model_id, model.training())
    for row in _rows(model, model_id):
        before = row.fingerprint.get(MEASURED)
        named = named_difference(row.fingerprint, model.fingerprint)
        if before is None or not (named or measure):
            continue
        now = _measured_here(model)
        if now != before:
            raise environment_changed(model.name, [*named, arithmetic(before, now)])


def expected(model: ErasableModel, model_id: int) -> tuple[str, ...]:
    """Return what was measured where the recorded checkpoints were made."""
    found = (row.fingerprint.get(MEASURED) for row in _rows(model, model_id))
    return tuple(sorted({str(digest) for digest in found if digest is not None}))


def confirm_old(model: ErasableModel, model_id: int, run: Training) -> None:
    """Show that checkpoints recorded without a measurement are of this environment, and record one.

    The cheapest of their stages is trained again; the bytes must be those on record.

    Raises:
        EnvironmentChanged: If they are not, or no stage can be repeated.
    """
    old = {row.key: row for row in _rows(model, model_id) if MEASURED not in row.fingerprint}
    kept = [node for node in model.graph.nodes if node.key in old]
    if not kept:
        return
    nodes = [n for n in kept if n.phase != "polish" and (n.parent is None or model.store.has(n.parent))]
    if not nodes:
        raise environment_changed(model.name, ["none of them can be repeated to compare"])
    node = min(nodes, key=lambda n: n.passes)
    model.progress.say("The checkpoints are of an older version: one stage is trained again, to compare.")
    start = model.store.path(node.parent) if node.parent else model.initial
    with TemporaryDirectory(prefix="repeat-", dir=model.workspace.tmp) as folder:
        again = replace(run, store=CheckpointStore(Path(folder)), expected=(), on_node=lambda done: None)
        done = repeat(node, again, start)
    if done.digest != old[node.key].digest:
        raise environment_changed(model.name, ["a stage that was trained again came to other weights"])
    with model.workspace.session(write=True) as session:
        for row in catalog.checkpoints(session, model_id):
            if row.key in old:
                row.fingerprint = {**model.fingerprint, MEASURED: done.measured}


def _measured_here(model: ErasableModel) -> str:
    if model.plan.digest not in _measured:
        _measured[model.plan.digest] = measure_here(model.training())
    return _measured[model.plan.digest]


def _rows(model: ErasableModel, model_id: int) -> list[CheckpointRow]:
    with model.workspace.session() as session:
        rows = list(catalog.checkpoints(session, model_id))
        session.expunge_all()
    return rows
