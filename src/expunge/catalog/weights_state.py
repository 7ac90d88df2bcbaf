# SPDX-License-Identifier: Apache-2.0
"""State of weights that match several model versions: the most cautious state wins."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from expunge.catalog.model_store import ModelVersion


@dataclass(frozen=True)
class WeightsState:
    """The state of weights (``current``, ``interim`` or ``superseded``), and the version that decides it."""

    state: str
    version: ModelVersion


def state_of_weights(
    records: Sequence[ModelVersion], held: Mapping[int, Collection[str]]
) -> WeightsState | None:
    """Return the state of weights that match the given versions, or None if there is no version.

    Weights that hold erased data are superseded, whatever is recorded. So are weights that one model has
    superseded. For each model, only its newest record counts, because a model may return to earlier weights.

    Args:
        records: The versions with these tensors, newest first.
        held: For each version id, the requests whose data the version holds.
    """
    if not records:
        return None
    for p in records:
        if held.get(p.id) or p.withdrawn:
            return WeightsState("superseded", p)
    newest: dict[str, ModelVersion] = {}
    for p in sorted(records, key=lambda p: p.id):
        newest[p.name] = p
    ordered = sorted(newest.values(), key=lambda p: -p.id)
    for state in ("superseded", "interim"):
        for p in ordered:
            if p.state == state:
                return WeightsState(state, p)
    return WeightsState(ordered[0].state, ordered[0])
