# SPDX-License-Identifier: Apache-2.0
"""Count what an erasure removes from each group of the training split, before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.bias.groups import MINIMUM, Groups, sizes, too_small
from expunge.data.types import Sample

MOST = 0.5
"""Share of a group's training samples from which a removal gives a warning."""
TWICE = 2.0
ADVICE = (
    "A group with few remaining samples is usually served worse. Reweight its samples, or collect more of"
    " them, before or instead of forgetting."
)


def removal(
    samples: Sequence[Sample], groups: Groups, erased: NDArray[np.bool_], minimum: int = MINIMUM
) -> dict[str, Any]:
    """Return how many samples of each group are erased.

    Args:
        samples: (N,) the training samples.
        groups: Their groups.
        erased: (N,) whether each sample is erased.
        minimum: Minimum of units for which a group's counts are reported.

    Returns:
        ``groups``: for each ``samples``, ``removed``, ``share`` and ``left_too_few``, or a sentence ``why``;
        ``warnings``; ``loses_most``: how many groups lose half or more, including groups too small to report.
    """
    found = sizes(groups, samples)
    kept = Groups(groups.columns, groups.names, groups.index[~erased], groups.apart)
    remaining = sizes(kept, [s for s, out in zip(samples, erased, strict=True) if not out])
    overall = float(erased.mean()) if len(erased) else 0.0
    entries: list[dict[str, Any]] = []
    warnings: list[str] = []
    most = 0
    for number, name in enumerate(groups.names):
        members = groups.members(number)
        removed = int(erased[members].sum())
        share = removed / len(members)
        most += share >= MOST
        if found[number].units < minimum:
            entries.append({"group": name, "why": too_small(found[number], minimum)})
            continue
        few = removed > 0 and remaining[number].units < minimum
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
            warnings.append(f"{name}: {share:.0%} of its training samples are erased.")
        elif few:
            warnings.append(f"{name}: fewer than {minimum} {found[number].word} of it remain.")
        elif overall > 0 and share > TWICE * overall and removed >= minimum:
            warnings.append(
                f"{name}: {share:.0%} of its training samples are erased, of all only {overall:.0%}."
            )
    if warnings or most:
        warnings.append(ADVICE)
    return {"groups": entries, "share": round(overall, 4), "loses_most": most, "warnings": warnings}
