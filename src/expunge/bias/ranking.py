# SPDX-License-Identifier: Apache-2.0
"""Scores of training samples as a ranking: by sample, by subject, or by the values of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expunge.bias.agreement import Agreement, aggregate, agreements, best
from expunge.bias.gradients import Floats
from expunge.errors import InputError

TRAK, TRACIN, LABELS = "trak", "tracin", "label-errors"
RANKINGS = (TRAK, TRACIN, LABELS)
SAMPLE, SUBJECT = "sample", "subject"
AGGREGATES = {TRAK: "sum", TRACIN: "sum", LABELS: "mean"}
TOP = {SAMPLE: 50}
TOP_OF_OTHERS = 5


@dataclass(frozen=True)
class Ranking:
    """Items, the most harmful first.

    Attributes:
        by: ``sample``, ``subject`` or a column.
        names: (m,) of the items.
        counts: (m,) training samples of each.
        scores: (m,) by name of the ranking, in the order of ``names``; NaN: nothing is known.
        chosen: How many of the first may be forgotten: at most the top N, and only what does harm.
        unranked: Training samples that belong to no item, or of which nothing is known.
        agreement: Of every two rankings, over all items.
        ranked_by: The ranking that gave the order.
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
        """How many items have a positive score."""
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
        scores: (n,) of the training samples, by name of the ranking; higher is worse.
        keys: For each sample the items that it belongs to.
        by: What the items are.
        ranked_by: Which score orders them.
        top: N; None: 50 samples, or 5 of anything else.
        seed: Of the intervals.

    Raises:
        InputError: If N or the ranking does not fit, or there is nothing to rank.
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
            "No training sample has one of which anything is known.",
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
    """Refuse a ranking that is not there, or a top of nothing.

    Raises:
        InputError: With what does not fit.
    """
    if ranked_by not in known:
        raise InputError(
            f"There is no ranking {ranked_by!r}.", f"Known: {', '.join(known)}.", "Choose one of these."
        )
    if top is not None and top < 1:
        raise InputError(f"--top {top} does not fit.", "At least one is to be named.", "Give 1 or more.")
