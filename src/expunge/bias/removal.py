# SPDX-License-Identifier: Apache-2.0
"""What taking samples out of the training leaves of each group: counts, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.bias.groups import MINIMUM, Groups, sizes, too_small
from expunge.data.types import Sample

MOST = 0.5
"""Share of a group's training samples from which on a removal is warned of."""
TWICE = 2.0
ADVICE = (
    "A group of which little is left is usually served worse. Reweight what is left of it, or collect more"
    " of it, before or instead of forgetting."
)


def removal(
    samples: Sequence[Sample], groups: Groups, gone: NDArray[np.bool_], minimum: int = MINIMUM
) -> dict[str, Any]:
    """Say how much of each group goes.

    Args:
        samples: (N,) the training samples.
        groups: Of them.
        gone: (N,) whether each goes.
        minimum: Units below which nothing is said of a group.

    Returns:
        ``groups``: for each ``samples``, ``removed``, ``share`` and ``left_too_few``, or a sentence ``why``;
        ``warnings``; ``loses_most``: how many groups lose half or more (also of those too small to be told).
    """
    found = sizes(groups, samples)
    left = sizes(Groups(groups.columns, groups.names, groups.index[~gone], groups.apart),
                 [s for s, out in zip(samples, gone, strict=True) if not out])  # fmt: skip
    overall = float(gone.mean()) if len(gone) else 0.0
    entries: list[dict[str, Any]] = []
    warnings: list[str] = []
    most = 0
    for number, name in enumerate(groups.names):
        members = groups.members(number)
        removed = int(gone[members].sum())
        share = removed / len(members)
        most += share >= MOST
        if found[number].units < minimum:
            entries.append({"group": name, "why": too_small(found[number], minimum)})
            continue
        few = removed > 0 and left[number].units < minimum
        entries.append(
            {
                "group": name,
                "samples": len(members),
                "removed": removed,
                "share": round(share, 4),
                "left_too_few": few,
            }
        )
        if share >= MOST:
            warnings.append(f"{name}: {share:.0%} of its training samples go.")
        elif few:
            warnings.append(f"{name}: fewer than {minimum} {found[number].word} of it are left.")
        elif overall > 0 and share > TWICE * overall and removed >= minimum:
            warnings.append(f"{name}: {share:.0%} of its training samples go, of all only {overall:.0%}.")
    if warnings or most:
        warnings.append(ADVICE)
    return {"groups": entries, "share": round(overall, 4), "loses_most": most, "warnings": warnings}
