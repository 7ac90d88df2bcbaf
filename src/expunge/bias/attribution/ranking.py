# SPDX-License-Identifier: Apache-2.0
"""Rank training samples, subjects, or the values of a column by their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expunge.bias.attribution.agreement import Agreement, aggregate, agreements, best
from expunge.bias.attribution.gradients import Floats
from expunge.errors import InputError

TRAK, TRACIN, LABELS = "trak", "tracin", "label-errors"
RANKINGS = (TRAK, TRACIN, LABELS)
SAMPLE, SUBJECT = "sample", "subject"
AGGREGATES = {TRAK: "sum", TRACIN: "sum", LABELS: "mean"}
TOP = {SAMPLE: 50}
TOP_OF_OTHERS = 5


@dataclass(frozen=True)
class Ranking:
    """Ranked items, the most harmful first.

    Attributes:
        by: ``sample``, ``subject`` or a column.
        names: (m,) names of the items.
        counts: (m,) numbers of training samples.
        scores: (m,) scores by estimate, in the order of ``names``; NaN: unknown.
        chosen: Number of first items to forget: at most the top N, with a positive score.
        unranked: Number of training samples without an item or without a score.
        agreement: Agreement of each pair of estimates, over all items.
        ranked_by: The estimate that gives the order.
    """

    by: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    scores: dict[str, Floats]
    chosen: int
    unranked: int
    agreement: dict[str, Agreement]
    ranked_by: str

    @property
    def harmful(self) -> int:
        """Number of items with a positive score."""
        return int((self.scores[self.ranked_by] > 0).sum())


def rank(
    scores: dict[str, Floats],
    keys: Sequence[Sequence[str]],
    by: str,
    *,
    ranked_by: str = TRAK,
    top: int | None = None,
    seed: int = 0,
) -> Ranking:
    """Return the ranking.

    Args:
        scores: (n,) scores of the training samples, by estimate; higher is worse.
        keys: For each sample the items that it belongs to.
        by: Kind of the items.
        ranked_by: The estimate that gives the order.
        top: N; None: 50 samples, or 5 of other items.
        seed: Seed of the intervals.

    Raises:
        InputError: If N or the estimate is invalid, or there is nothing to rank.
    """
    check_ranking(ranked_by, top, tuple(scores))
    names: list[str] = []
    found: dict[str, Floats] = {}
    for name, values in scores.items():
        items, found[name] = aggregate(values, keys, AGGREGATES.get(name, "sum"))
        names = [str(item) for item in items]
    wanted = TOP.get(by, TOP_OF_OTHERS) if top is None else top
    if not names or not np.isfinite(found[ranked_by]).any():
        raise InputError(
            f"There is nothing to rank by {by}.",
            "No training sample has an item with a known score.",
            "Rank by sample instead.",
        )
    agree = agreements(found, min(wanted, len(names)), seed)
    order = best(found[ranked_by], len(names))
    counts = Counter(key for own in keys for key in own)
    known = np.isfinite(scores[ranked_by])
    unranked = sum(1 for own, ok in zip(keys, known, strict=True) if not own or not ok)
    ordered = {name: values[order] for name, values in found.items()}
    return Ranking(
        by,
        tuple(names[i] for i in order),
        tuple(counts[names[i]] for i in order),
        ordered,
        min(wanted, int((ordered[ranked_by] > 0).sum())),
        unranked,
        agree,
        ranked_by,
    )


def check_ranking(ranked_by: str, top: int | None, known: Sequence[str] = RANKINGS) -> None:
    """Raise InputError if the estimate is unknown or N is below 1.

    Raises:
        InputError: With the invalid value.
    """
    if ranked_by not in known:
        raise InputError(
            f"There is no ranking {ranked_by!r}.", f"Known: {', '.join(known)}.", "Choose one of these."
        )
    if top is not None and top < 1:
        raise InputError(f"--top {top} does not fit.", "At least one item is needed.", "Give 1 or more.")
