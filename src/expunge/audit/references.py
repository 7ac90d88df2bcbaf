# SPDX-License-Identifier: Apache-2.0
"""The verdict by comparison with reference models, trained without the forget set: level ``full``.

The null is what the references give on the very same samples. A true retrain is one more draw of it, so the
interval needs no assumption about how forgotten and unseen data compare, nor about distributions; but it
needs references that are exchangeable with a retrain: same plan, same data, other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expunge.audit.gate import Losses, residual_over
from expunge.audit.scores import Scores, auc, log_odds
from expunge.audit.verdict import LEVEL, OUTPUTS, Figure, Utility, Verdict, collapse, conclude
from expunge.errors import InputError

FULL = 19  # references for a verdict on the model: a rank test over N has p ≥ 1 / (N + 1)
WORST = 0.10  # share of the forget set in the figure of its worst samples
SMALLEST = 1e-12  # loss below which nothing can be told apart in 64 bits
CAVEAT = "Judged against {n} models that were trained without the forget set."


@dataclass(frozen=True)
class Asked:
    """Losses of the same samples under the original, the candidate and N references.

    Attributes:
        original, candidate: (n,).
        references: (N, n).
    """

    original: Scores
    candidate: Scores
    references: Scores

    def __post_init__(self) -> None:
        n = len(self.original)
        if self.candidate.shape != (n,) or self.references.ndim != 2 or self.references.shape[1] != n:
            raise InputError(
                "The losses of the models are not those of the same data.",
                f"Their shapes are {self.original.shape}, {self.candidate.shape} and "
                f"{self.references.shape}.",
                "Score the same samples with all models.",
            )
        if not all(np.isfinite(x).all() for x in (self.original, self.candidate, self.references)):
            raise InputError(
                "A model's loss is not a finite number.",
                "Nothing can be judged by it.",
                "Look at the model and the data: one of them is damaged.",
            )


def confidence(losses: Scores) -> Scores:
    """Return −log(exp(ℓ) − 1): the log odds log(p / (1 − p)) where ℓ = −log p is a cross-entropy.

    The scaling of LiRA (Carlini et al. 2022, §IV-C), near normal for members and others alike. For losses
    that are no cross-entropy it is monotone all the same: −log ℓ for small ones, −ℓ for large ones.
    """
    return log_odds(losses, SMALLEST)


def calibrated(losses: Scores, references: Scores) -> Scores:
    """Return losses from which each sample's difficulty is taken out: low means "fits better than it should".

    φ averaged over the references less φ of the model (Watson et al. 2022, with the log odds for the loss).

    Args:
        losses: (n,) of the model.
        references: (N, n) of models that never saw any of these samples.
    """
    return np.asarray(confidence(references).mean(axis=0) - confidence(losses), dtype=np.float64)


def calibrate(asked: Asked, groups: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Losses:
    """Return calibrated losses in the form that the ``standard`` level judges."""
    return Losses(
        calibrated(asked.original, asked.references), calibrated(asked.candidate, asked.references), groups
    )


def judge_by_references(
    forget: Asked,
    unseen: Asked,
    utility: Utility,
    *,
    probes: Mapping[str, tuple[Asked, Asked]] | None = None,
    tests: int = 1,
) -> Verdict:
    """Judge a candidate by models that were trained without the forget set.

    Args:
        forget: Losses on the forget set.
        unseen: Losses on data that no model was trained on.
        utility: The metric on held-out data, with that of the references at the low end.
        probes: The same two under other views of the models.
        tests: How many candidates are judged for the same request (Bonferroni).

    Raises:
        InputError: If there are fewer than 19 references.
    """
    count = len(forget.references)
    if count < FULL:
        raise InputError(
            f"{count} reference(s) do not suffice for a verdict on the model.",
            f"A rank test over N references has p ≥ 1/(N + 1): {FULL} are needed for 5 %.",
            "Train more references, or judge at the level standard.",
        )
    if not utility.holds:
        return collapse(utility, "full")
    if not len(forget.original) or len(unseen.original) < 2:
        said = (
            f"{len(forget.original)} forgotten and {len(unseen.original)} unseen samples allow no conclusion."
        )
        return Verdict("no-power", (said,), level="full")
    level = 1 - (1 - LEVEL) / tests
    figures = []
    for view, (f, u) in {OUTPUTS: (forget, unseen), **(probes or {})}.items():
        figures += against_references(f, u, level, view)
    return conclude(figures, utility, "full", CAVEAT.format(n=count))


def against_references(forget: Asked, unseen: Asked, level: float, view: str = OUTPUTS) -> list[Figure]:
    """Return the residuals against references.

    ``membership_auc``: how well the loss tells forgotten from unseen samples. ``confidence_gap``: by how
    much the mean φ of the forgotten exceeds that of the unseen. ``worst_samples``: mean z-score of the tenth
    of the forget set that sticks out most, so that a few samples that are still there cannot hide in a mean.
    """

    def gap(f: Scores, u: Scores) -> float:
        return float(confidence(f).mean() - confidence(u).mean())

    def area(f: Scores, u: Scores) -> float:
        return auc(-f, -u)

    values = {}
    for name, statistic in (("membership_auc", area), ("confidence_gap", gap)):
        null = np.array([statistic(f, u) for f, u in zip(forget.references, unseen.references, strict=True)])
        values[name] = tuple(
            (statistic(getattr(forget, model), getattr(unseen, model)), null)
            for model in ("original", "candidate")
        )
    values["worst_samples"] = (
        worst(forget.original, forget.references),
        worst(forget.candidate, forget.references),
    )
    return [
        residual_over(
            name,
            original,
            candidate,
            independent=len(forget.references),
            level=level,
            view=view,
            n_forget=len(forget.original),
            n_unseen=len(unseen.original),
            units="references",
        )
        for name, (original, candidate) in values.items()
    ]


def worst(losses: Scores, references: Scores) -> tuple[float, Scores]:
    """Return the mean z-score of the worst tenth of the samples, for a model and for every reference.

    Each model is held against the others: the one in question against all references, a reference against
    the others and the one in question. So all of them are treated alike, and under the null hypothesis the
    values are exchangeable.

    Args:
        losses: (n,) of the model in question.
        references: (N, n).

    Returns:
        Its value, and those of the references (N,).
    """
    pool = confidence(np.concatenate([losses[None], references]))
    total, squares, count = pool.sum(0), (pool**2).sum(0), len(pool) - 1
    mean = (total - pool) / count
    variance = np.maximum((squares - pool**2) / count - mean**2, 0.0) * count / (count - 1)
    z = (pool - mean) / np.sqrt(variance + 1e-12)
    most = max(1, round(WORST * z.shape[1]))
    values = np.sort(z, axis=1)[:, -most:].mean(axis=1)
    return float(values[0]), values[1:]
