# SPDX-License-Identifier: Apache-2.0
"""What may be said of weights that several records know: the most cautious of what the records say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from expunge.catalog.models import Published


@dataclass(frozen=True)
class Standing:
    """How weights stand: ``current``, ``interim`` or ``superseded``, and the version that says so."""

    state: str
    version: Published


def judge(records: Sequence[Published], held: Mapping[int, Collection[str]]) -> Standing | None:
    """Return how weights stand that are known as some versions; None where they are known as none.

    Weights that hold what was erased are superseded, whatever is recorded of them. So are weights that one
    model has left behind. Of one model, its newest record counts: it may have gone back to earlier weights.

    Args:
        records: The versions with these tensors, newest first.
        held: For each version (by id) the requests whose data it holds.
    """
    if not records:
        return None
    for p in records:
        if held.get(p.id) or p.withdrawn:
            return Standing("superseded", p)
    newest: dict[str, Published] = {}
    for p in sorted(records, key=lambda p: p.id):
        newest[p.name] = p
    ordered = sorted(newest.values(), key=lambda p: -p.id)
    for state in ("superseded", "interim"):
        for p in ordered:
            if p.state == state:
                return Standing(state, p)
    return Standing(ordered[0].state, ordered[0])
