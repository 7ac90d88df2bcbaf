# SPDX-License-Identifier: Apache-2.0
"""Tests by exchangeability alone, and the correction for making several.

If a candidate is made as the N references are (same plan, another seed), each of the N + 1 is as likely as
any other to be the most extreme: no p is below 1 / (N + 1), and 19 references are needed for p = 0.05.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from expunge.audit.checks import numbers
from expunge.audit.scores import Scores
from expunge.errors import InputError

Side = Literal["two-sided", "greater", "less"]
ENUMERATED = 20_000
"""Divisions into two groups that are all looked at; where there are more, as many are drawn."""
TIE = 1e-12


@dataclass(frozen=True)
class RankTest:
    """Where a candidate stands among references.

    Attributes:
        p: Of H0: candidate and references are exchangeable.
        least: The smallest p that there can be, 1 / (N + 1).
        above, below: References strictly above and below the candidate.
        references: N.
        side: Which alternative.
    """

    p: float
    least: float
    above: int
    below: int
    references: int
    side: Side


@dataclass(frozen=True)
class PermutationTest:
    """Whether one group's mean is apart from another's.

    Attributes:
        p: Of H0: the group of each score is exchangeable.
        least: The smallest p that there can be.
        difference: Mean of the group minus mean of the others.
        exact: Whether all divisions were looked at; otherwise random ones.
        group, others: Scores on both sides.
        side: Which alternative.
    """

    p: float
    least: float
    difference: float
    exact: bool
    group: int
    others: int
    side: Side


def rank_test(candidate: float, references: ArrayLike, *, side: Side = "two-sided") -> RankTest:
    """Test whether a candidate's figure could be that of one more reference.

    One-sided, p = (1 + references at least as extreme) / (N + 1). Two-sided, extreme means far from the
    median of all N + 1 figures, candidate included: that treats all of them alike, so p may be as small as 1
    / (N + 1), while a rank alone, doubled, could not be below 2 / (N + 1); unlike the rank, it depends on the
    scale of the figure.

    Args:
        candidate: Its figure.
        references: Figures (N,) of exchangeable references: same plan, other seeds. Shards are none.
        side: ``greater``: the candidate is suspected to be high.

    Raises:
        InputError: If figures are missing or not finite.
    """
    refs = numbers(references, "the references")
    value = float(numbers([candidate], "the candidate")[0])
    everything = np.concatenate([[value], refs])
    extreme = _extremity(everything, side)
    p = int((extreme >= extreme[0] - TIE * np.abs(everything).max()).sum()) / len(everything)
    above, below = int((refs > value).sum()), int((refs < value).sum())
    return RankTest(p, 1 / len(everything), above, below, len(refs), side)


def permutation_test(
    group: ArrayLike,
    others: ArrayLike,
    *,
    side: Side = "two-sided",
    generator: np.random.Generator | None = None,
) -> PermutationTest:
    """Test whether the scores of a group are exchangeable with those of others, by the difference of means.

    All divisions are looked at where there are at most 20,000; otherwise as many are drawn, and the one at
    hand is counted too, so that p is valid (Phipson and Smyth 2010, "Permutation P-values should never be
    zero").

    Args:
        group: Scores (k,).
        others: Scores (m,).
        side: ``greater``: the group is suspected to be high. Two-sided: |difference| counts.
        generator: Draws divisions where there are too many.

    Raises:
        InputError: If scores are missing or not finite, or a generator is needed and missing.
    """
    one, two = numbers(group, "the group"), numbers(others, "the others")
    joined = np.concatenate([one, two])
    k, total = len(one), len(joined)
    divisions = math.comb(total, k)
    exact = divisions <= ENUMERATED
    if exact:
        chosen = np.array(list(combinations(range(total), k)))
    elif generator is None:
        raise InputError(
            f"There are {divisions:,} ways to divide the scores.",
            "That is too many to look at all of them.",
            "Give a generator, to draw some.",
        )
    else:
        drawn = [generator.permutation(total)[:k] for _ in range(ENUMERATED - 1)]
        chosen = np.array([np.arange(k), *drawn])
    means = joined[chosen].mean(axis=1)
    differences = means - (joined.sum() - k * means) / (total - k)
    observed = float(one.mean() - two.mean())
    sign = {"greater": 1.0, "less": -1.0}.get(side)
    extreme = np.abs(differences) if sign is None else sign * differences
    bound = abs(observed) if sign is None else sign * observed
    hits = int((extreme >= bound - TIE * np.abs(joined).max()).sum())
    # The mirror image of a division of two equal halves is as far apart as it is.
    least = (2 if side == "two-sided" and 2 * k == total and exact else 1) / len(chosen)
    return PermutationTest(hits / len(chosen), least, observed, exact, k, len(two), side)


def holm(p_values: ArrayLike) -> Scores:
    """Return p-values (k,) adjusted for k tests (Holm 1979): reject where they are at most α.

    Raises:
        InputError: If one is no probability.
    """
    found = numbers(p_values, "the tests")
    if found.min() < 0 or found.max() > 1:
        raise InputError("A p-value is not between 0 and 1.", "It is no probability.", "Correct it.")
    order = np.argsort(found, kind="stable")
    stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _extremity(values: Scores, side: Side) -> Scores:
    if side == "two-sided":
        return np.asarray(np.abs(values - np.median(values)), dtype=np.float64)
    return values if side == "greater" else -values
