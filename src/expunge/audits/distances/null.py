# SPDX-License-Identifier: Apache-2.0
"""Null distribution of a distance between models: the same distance between references of other seeds.

Distances between sets of models depend on the number of models. So both figures use equal numbers: half of
the references against the other half, and against as many candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.audits.input_checks import numbers, same_columns
from expunge.audits.scores import Scores
from expunge.errors import InputError

Distance = Callable[[Scores, Scores], Scores]
"""From (N, n) and (M, n) to (n,): KLoM, Gaussian KL, ε of the forgetting score."""


@dataclass(frozen=True)
class WithNull:
    """A distance and its null.

    Attributes:
        candidate: (splits, n) references against candidates.
        null: (splits, n) references against references.
        size: Number of models on each side.
    """

    candidate: Scores
    null: Scores
    size: int


def against_null(
    references: ArrayLike,
    candidates: ArrayLike,
    distance: Distance,
    generator: np.random.Generator,
    *,
    splits: int = 20,
) -> WithNull:
    """Return a distance between references and candidates, with its null between references.

    Args:
        references: Scores (N, n) of retrained models, N ≥ 4.
        candidates: Scores (M, n) of unlearned models, M ≥ 2; if M < N // 2, each side has M models.
        distance: The distance.
        generator: Random generator.
        splits: Number of random halvings. They share models, so their spread is not a confidence interval.

    Raises:
        InputError: If there are too few models, or shapes do not fit.
    """
    p = numbers(references, "the references", dimensions=2, least=4)
    q = numbers(candidates, "the candidates", dimensions=2, least=2)
    same_columns([p, q], "references and candidates")
    if splits < 1:
        raise InputError(
            "The number of splits is too small.", "The null comes from splits.", "Give at least 1."
        )
    size = min(len(p) // 2, len(q))
    found, null = [], []
    for _ in range(splits):
        order, drawn = generator.permutation(len(p)), generator.permutation(len(q))[:size]
        one, two = p[order[:size]], p[order[size : 2 * size]]
        found.append(distance(one, q[drawn]))
        null.append(distance(one, two))
    return WithNull(np.stack(found), np.stack(null), size)
