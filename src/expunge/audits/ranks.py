# SPDX-License-Identifier: Apache-2.0
"""Rank and permutation tests, and Holm's correction for several tests.

They assume exchangeability alone. If a candidate is made like the N references (same plan, another seed),
each of the N + 1 models is equally likely to be the most extreme. So p is at least 1 / (N + 1), and 19
references are needed for p = 0.05.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from expunge.audits.input_checks import numbers
from expunge.audits.scores import Scores
from expunge.errors import InputError

Side = Literal["two-sided", "greater", "less"]
ENUMERATED = 20_000
"""Up to this number all divisions into two groups are enumerated; of more, this number is drawn."""
TIE = 1e-12


@dataclass(frozen=True)
class RankTest:
    """The rank of a candidate among references.

    Attributes:
        p: p-value of H0: candidate and references are exchangeable.
        least: The smallest possible p, 1 / (N + 1).
        above, below: Numbers of references strictly above and below the candidate.
        references: N.
        side: The alternative.
    """

    p: float
    least: float
    above: int
    below: int
    references: int
    side: Side


@dataclass(frozen=True)
class PermutationTest:
    """The difference of two group means, with its p-value.

    Attributes:
        p: p-value of H0: the labels of the scores are exchangeable.
        least: The smallest possible p.
        difference: Mean of the group minus mean of the others.
        exact: Whether all divisions were enumerated; otherwise random ones were drawn.
        group, others: Numbers of scores.
        side: The alternative.
    """

    p: float
    least: float
    difference: float
    exact: bool
    group: int
    others: int
    side: Side


def rank_test(candidate: float, references: ArrayLike, *, side: Side = "two-sided") -> RankTest:
    """Test whether a candidate's figure is exchangeable with those of the references.

    One-sided, p = (1 + number of references at least as extreme) / (N + 1). Two-sided, extreme means far from
    the median of all N + 1 figures, the candidate included. So p can be as small as 1 / (N + 1), whereas a
    doubled one-sided p is at least 2 / (N + 1); unlike a rank, it depends on the scale of the figure.

    Args:
        candidate: Figure of the candidate.
        references: Figures (N,) of exchangeable references: same plan, other seeds. Shards are not
            exchangeable.
        side: ``greater``: the alternative is that the candidate is high.

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

    Up to 20,000 divisions are enumerated; of more, as many are drawn, including the observed one, so that p
    is valid (Phipson and Smyth 2010, "Permutation P-values should never be zero").

    Args:
        group: Scores (k,).
        others: Scores (m,).
        side: ``greater``: the alternative is that the group is high. Two-sided: by |difference|.
        generator: Draws divisions if there are more than 20,000.

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
            "That is too many to enumerate.",
            "Give a generator, so that random ones are drawn.",
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
    # With two equal halves, each division and its mirror image have the same |difference|.
    least = (2 if side == "two-sided" and 2 * k == total and exact else 1) / len(chosen)
    return PermutationTest(hits / len(chosen), least, observed, exact, k, len(two), side)


def holm(p_values: ArrayLike) -> Scores:
    """Return p-values (k,) adjusted for k tests (Holm 1979): reject where they are at most α.

    Raises:
        InputError: If a value is not in [0, 1].
    """
    found = numbers(p_values, "the tests")
    if found.min() < 0 or found.max() > 1:
        raise InputError("A p-value is not between 0 and 1.", "It is not a probability.", "Correct it.")
    order = np.argsort(found, kind="stable")
    stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _extremity(values: Scores, side: Side) -> Scores:
    if side == "two-sided":
        return np.asarray(np.abs(values - np.median(values)), dtype=np.float64)
    return values if side == "greater" else -values
