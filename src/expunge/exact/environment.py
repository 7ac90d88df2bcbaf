# SPDX-License-Identifier: Apache-2.0
"""Checks that a model's checkpoints were made with the arithmetic of this environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from expunge.catalog import model_store
from expunge.exact.runner import Training, measure_here, repeat
from expunge.exact.store import CheckpointStore
from expunge.training.fingerprint import (
    MEASURED,
    certain_differences,
    environment_changed,
    measured_difference,
    possible_differences,
)

if TYPE_CHECKING:
    from expunge.catalog.tables import CheckpointRow
    from expunge.exact.graph import Graph
    from expunge.progress import Progress
    from expunge.training.plan import Plan
    from expunge.workspace import Workspace


class TrainedModel(Protocol):
    """The part of :class:`expunge.exact.model.ErasableModel` that the checks use."""

    workspace: Workspace
    name: str
    plan: Plan
    progress: Progress

    @property
    def graph(self) -> Graph: ...
    @property
    def fingerprint(self) -> dict[str, Any]: ...
    @property
    def store(self) -> CheckpointStore: ...
    @property
    def initial(self) -> Path: ...
    def training(self) -> Training: ...


_measured: dict[str, str] = {}  # by plan digest; a process's environment does not change


def check_environment(model: TrainedModel, model_id: int, measure: bool) -> None:
    """Check that new checkpoints can be combined with a model's existing ones.

    Fingerprint entries that certainly matter must be equal. If only the processor, variables or builds
    differ, or if ``measure`` is set, the arithmetic is measured in a training process and must be equal.

    Args:
        model: The model.
        model_id: The model's row in the catalog.
        measure: Whether to measure even if the fingerprints are equal.

    Raises:
        EnvironmentChanged: If the environments differ; with the differences.
    """
    rows = _rows(model, model_id)
    for row in rows:
        if changed := certain_differences(row.fingerprint, model.fingerprint):
            raise environment_changed(model.name, changed)
    if measure and rows:
        verify_unmeasured(model, model_id, model.training())
    for row in _rows(model, model_id):
        before = row.fingerprint.get(MEASURED)
        named = possible_differences(row.fingerprint, model.fingerprint)
        if before is None or not (named or measure):
            continue
        now = _measured_here(model)
        if now != before:
            raise environment_changed(model.name, [*named, measured_difference(before, now)])


def recorded_measurements(model: TrainedModel, model_id: int) -> tuple[str, ...]:
    """Return the digests measured when the recorded checkpoints were made."""
    digests = (row.fingerprint.get(MEASURED) for row in _rows(model, model_id))
    return tuple(sorted({str(digest) for digest in digests if digest is not None}))


def verify_unmeasured(model: TrainedModel, model_id: int, run: Training) -> None:
    """Check checkpoints recorded without a measurement, and record the measurement of this environment.

    The cheapest of their stages is trained again and must give the recorded digest.

    Raises:
        EnvironmentChanged: If the digest differs, or no stage can be repeated.
    """
    old = {row.key: row for row in _rows(model, model_id) if MEASURED not in row.fingerprint}
    recorded = [node for node in model.graph.nodes if node.key in old]
    if not recorded:
        return
    repeatable = [
        n for n in recorded if n.phase != "polish" and (n.parent is None or model.store.has(n.parent))
    ]
    if not repeatable:
        raise environment_changed(model.name, ["no stage can be repeated for a comparison"])
    node = min(repeatable, key=lambda n: n.passes)
    model.progress.say("The checkpoints were made by an older version: one stage is repeated to compare.")
    start = model.store.path(node.parent) if node.parent else model.initial
    with TemporaryDirectory(prefix="repeat-", dir=model.workspace.tmp) as folder:
        repeat_run = replace(
            run, store=CheckpointStore(Path(folder)), expected=(), on_node=lambda result: None
        )
        result = repeat(node, repeat_run, start)
    if result.digest != old[node.key].digest:
        raise environment_changed(model.name, ["a repeated stage has other weights"])
    with model.workspace.session(write=True) as session:
        for row in model_store.checkpoints(session, model_id):
            if row.key in old:
                row.fingerprint = {**model.fingerprint, MEASURED: result.measured}


def _measured_here(model: TrainedModel) -> str:
    if model.plan.digest not in _measured:
        _measured[model.plan.digest] = measure_here(model.training())
    return _measured[model.plan.digest]


def _rows(model: TrainedModel, model_id: int) -> list[CheckpointRow]:
    with model.workspace.session() as session:
        rows = list(model_store.checkpoints(session, model_id))
        session.expunge_all()
    return rows
