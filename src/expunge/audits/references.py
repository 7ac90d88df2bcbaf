# SPDX-License-Identifier: Apache-2.0
"""Verdict by comparison with reference models trained without the forget set: level ``full``.

The null distribution is that of the references on the same samples. A true retrain is one more draw of it, so
the interval needs no assumption about distributions or about the similarity of forgotten and unseen data. It
needs references that are exchangeable with a retrain: same plan, same data, other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expunge.audits.gate import Losses, residual_over
from expunge.audits.scores import Scores, auc, log_odds
from expunge.audits.verdict import LEVEL, OUTPUTS, Figure, Utility, Verdict, collapse, conclude
from expunge.errors import InputError

FULL = 19  # references for a verdict on the model: a rank test over N has p ≥ 1 / (N + 1)
WORST = 0.10  # share of the forget set in the figure `worst_samples`
SMALLEST = 1e-12  # losses below it are indistinguishable in 64 bits
CAVEAT = "Judged against {n} models that were trained without the forget set."


@dataclass(frozen=True)
class PairedLosses:
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
                "No verdict can be derived from it.",
                "Check the model and the data: one of them is damaged.",
            )


def confidence(losses: Scores) -> Scores:
    """Return −log(exp(ℓ) − 1): the log odds log(p / (1 − p)) where ℓ = −log p is a cross-entropy.

    This is the scaling of LiRA (Carlini et al. 2022, §IV-C), close to normal for members and non-members. For
    other losses it is a monotone transform: about −log ℓ for small ℓ, −ℓ for large ℓ.
    """
    return log_odds(losses, SMALLEST)


def calibrated(losses: Scores, references: Scores) -> Scores:
    """Return losses calibrated by each sample's difficulty (n,); low: fitted better than by the references.

    The mean φ of the references minus φ of the model (Watson et al. 2022, here with log odds).

    Args:
        losses: (n,) of the model.
        references: (N, n) of models that were trained on none of these samples.
    """
    return np.asarray(confidence(references).mean(axis=0) - confidence(losses), dtype=np.float64)


def calibrate(losses: PairedLosses, groups: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Losses:
    """Return the calibrated losses of original and candidate, for the level ``standard``."""
    return Losses(
        calibrated(losses.original, losses.references),
        calibrated(losses.candidate, losses.references),
        groups,
    )


def judge_by_references(
    forget: PairedLosses,
    unseen: PairedLosses,
    utility: Utility,
    *,
    probes: Mapping[str, tuple[PairedLosses, PairedLosses]] | None = None,
    tests: int = 1,
) -> Verdict:
    """Return the verdict on a candidate by comparison with at least 19 references.

    Args:
        forget: Losses on the forget set.
        unseen: Losses on data that no model was trained on.
        utility: The metric on held-out data, with the low end of the references' metric.
        probes: (forget, unseen) for other views of the models.
        tests: Number of candidates audited for the same request (Bonferroni).

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
        reason = (
            f"{len(forget.original)} forgotten and {len(unseen.original)} unseen samples allow no conclusion."
        )
        return Verdict("no-power", (reason,), level="full")
    level = 1 - (1 - LEVEL) / tests
    figures = []
    for view, (f, u) in {OUTPUTS: (forget, unseen), **(probes or {})}.items():
        figures += against_references(f, u, level, view)
    return conclude(figures, utility, "full", CAVEAT.format(n=count))


def against_references(
    forget: PairedLosses, unseen: PairedLosses, level: float, view: str = OUTPUTS
) -> list[Figure]:
    """Return the residuals of three figures against the references.

    ``membership_auc``: AUC of the loss between forgotten and unseen samples. ``confidence_gap``: mean φ of
    the forgotten minus that of the unseen samples. ``worst_samples``: mean z-score of the most conspicuous
    tenth of the forget set, so that a few remembered samples do not vanish in a mean.
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
    """Return the mean z-score of the worst tenth of the samples, for a model and for each reference.

    Each model is compared with all the others, references included, so that under the null hypothesis the
    values are exchangeable.

    Args:
        losses: (n,) of the model.
        references: (N, n).

    Returns:
        The value of the model, and those of the references (N,).
    """
    pool = confidence(np.concatenate([losses[None], references]))
    total, squares, count = pool.sum(0), (pool**2).sum(0), len(pool) - 1
    mean = (total - pool) / count
    variance = np.maximum((squares - pool**2) / count - mean**2, 0.0) * count / (count - 1)
    z = (pool - mean) / np.sqrt(variance + 1e-12)
    most = max(1, round(WORST * z.shape[1]))
    values = np.sort(z, axis=1)[:, -most:].mean(axis=1)
    return float(values[0]), values[1:]
