# SPDX-License-Identifier: Apache-2.0
"""What a distance between models is worth: beside it, the same distance between references of other seeds.

Distances between sets of models depend on how many models there are. So both figures are taken with equal
numbers: half of the references against the other half, and against as many candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.audit.checks import numbers, same_columns
from expunge.audit.scores import Scores
from expunge.errors import InputError

Distance = Callable[[Scores, Scores], Scores]
"""From (N, n) and (M, n) to (n,): KLoM, Gaussian KL, ε of the forgetting score."""


@dataclass(frozen=True)
class WithNull:
    """A distance and its null.

    Attributes:
        candidate: (splits, n) references against candidates.
        null: (splits, n) references against references.
        size: Models on each side.
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
    """Return a distance from references to candidates beside that from references to references.

    Args:
        references: Scores (N, n) of retrained models, N ≥ 4.
        candidates: Scores (M, n) of unlearned models, M ≥ 2; where M < N // 2, M models stand on each side.
        distance: The distance.
        generator: Draws the halves.
        splits: How many random halvings. They share models: the spread over splits is no confidence interval.

    Raises:
        InputError: If there are too few models, or shapes do not fit.
    """
    p = numbers(references, "the references", dimensions=2, least=4)
    q = numbers(candidates, "the candidates", dimensions=2, least=2)
    same_columns([p, q], "references and candidates")
    if splits < 1:
        raise InputError("No split was asked for.", "The null comes from splits.", "Ask for at least one.")
    size = min(len(p) // 2, len(q))
    found, null = [], []
    for _ in range(splits):
        order, drawn = generator.permutation(len(p)), generator.permutation(len(q))[:size]
        one, two = p[order[:size]], p[order[size : 2 * size]]
        found.append(distance(one, q[drawn]))
        null.append(distance(one, two))
    return WithNull(np.stack(found), np.stack(null), size)
