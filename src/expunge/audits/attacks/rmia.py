# SPDX-License-Identifier: Apache-2.0
"""RMIA, offline: a strong attack with one to four reference models.

Zarifzadeh, Liu and Shokri 2024, "Low-Cost High-Power Membership Inference Attacks" (ICML). The score of a
sample x is the share of population samples z that it dominates:

    LR(x, z) = [p(x|θ) / p(x)] / [p(z|θ) / p(z)]
    score(x) = Pr_z( LR(x, z) ≥ γ )
    p(x) = (p_out + p_in) / 2,  p_in ≈ a·p_out + (1 − a)   (offline)

p_out: mean of p(x|θ') over reference models θ' that never saw x.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audits.input_checks import between, mask, numbers, same_columns
from expunge.audits.scores import Scores
from expunge.errors import InputError


def rmia(
    target: ArrayLike,
    references: ArrayLike,
    population: ArrayLike,
    population_references: ArrayLike,
    *,
    a: float = 0.3,
    gamma: float = 2.0,
    unseen: ArrayLike | None = None,
) -> Scores:
    """Return the share of the population that each sample x dominates (n,); higher means "member".

    Probabilities are given as logarithms, since those of a detector (−loss) leave the range of a float. For a
    detector, use ``a=1``: then p(x) is p_out, and the scale of the loss does not matter. With a smaller a,
    p_out vanishes beside 1 − a at losses of a few units.

    Args:
        target: log p(x|θ) (n,) of the model under audit, at most 0: the log-probability of the true class, or
            −loss.
        references: log p(x|θ') (R, n) of R ≥ 1 reference models.
        population: log p(z|θ) (m,) of samples that neither model nor references were trained on.
        population_references: log p(z|θ') (R, m).
        a: Slope of the approximation p_in ≈ a·p_out + (1 − a), in [0, 1]; the paper uses 0.3 for CIFAR-10.
            Choose it by attacking one reference with the others, not with the model under audit.
        gamma: γ, at least 1 in the paper.
        unseen: (R, n) whether the reference was not trained on the sample; None: none was trained on any.

    Raises:
        InputError: If shapes do not fit, a value is above 0 or not finite, or a sample has no reference.
    """
    x, z = _log_likelihoods(target, "the samples", 1), _log_likelihoods(population, "the population", 1)
    xs = _log_likelihoods(references, "the samples under the references", 2)
    zs = _log_likelihoods(population_references, "the population under the references", 2)
    same_columns([x, xs], "the samples")
    same_columns([z, zs], "the population")
    if len(xs) != len(zs):
        raise InputError(
            "Samples and population were not scored by the same reference models.",
            f"There are {len(xs)} and {len(zs)} of them.",
            "Score both with all references, in the same order.",
        )
    if not 0 <= a <= 1:
        raise InputError(f"The offline factor a is {a:g}.", "It must lie between 0 and 1.", "Correct it.")
    between(gamma, 0, np.inf, "factor gamma")
    ratio_x = x - _marginal(xs, mask(unseen, xs.shape, "whether the reference never saw it", default=True), a)
    ratio_z = np.sort(z - _marginal(zs, np.ones(zs.shape, dtype=bool), a))
    beaten = np.searchsorted(ratio_z, ratio_x - np.log(gamma), side="right")
    return np.asarray(beaten / len(z), dtype=np.float64)


def _log_likelihoods(values: ArrayLike, name: str, dimensions: int) -> Scores:
    found = numbers(values, name, dimensions=dimensions)
    if found.max() > 0:
        raise InputError(
            f"The log-likelihoods of {name} are not all at most 0.",
            f"The greatest is {found.max():.3g}, which would be a probability above 1.",
            "Give log p, or −loss of a loss that is never negative.",
        )
    return found


def _marginal(logs: Scores, usable: NDArray[np.bool_], a: float) -> Scores:
    """Return log p(x) (n,): the mean of p_out and a·p_out + 1 − a."""
    counts = usable.sum(axis=0)
    if not counts.all():
        raise InputError(
            f"{int((counts == 0).sum())} samples have no reference model.",
            "Every reference was trained on them.",
            "Train a reference without them, or leave them out.",
        )
    masked = np.where(usable, logs, -np.inf)
    top = masked.max(axis=0)
    out = top + np.log(np.exp(masked - top).sum(axis=0)) - np.log(counts)
    if a == 1:
        return np.asarray(out, dtype=np.float64)
    return np.asarray(np.logaddexp(np.log1p(a) + out, np.log1p(-a)) - np.log(2), dtype=np.float64)
