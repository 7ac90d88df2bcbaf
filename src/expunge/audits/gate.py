# SPDX-License-Identifier: Apache-2.0
"""Verdict by comparison with unseen people: levels ``quick`` (losses) and ``standard`` (calibrated losses).

The verdict assumes that forgotten and unseen data have the same distribution. Calibration by reference models
(``standard``) removes the difficulty of each sample, so that only the people need to be exchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from expunge.audits.scores import Scores, auc, clopper_pearson, interval, multiplicities, wins
from expunge.audits.verdict import (
    LEVEL,
    MARGIN,
    OUTPUTS,
    Figure,
    Utility,
    Verdict,
    collapse,
    conclude,
    span,
    utility_json,
)
from expunge.errors import InputError

DRAWS = 2000
UNSEEN = 19  # minimum of unseen people or samples: with fewer, p ≥ 1 / (n + 1) is above 5 %
FEW = 10  # with fewer forgotten people, unseen people are the null; with more, both sides are resampled
ABSENCE = 0.05  # largest rate at which a removed class may still be predicted
CAVEATS = {
    "quick": "No reference model was trained: this holds as far as forgotten and unseen data are alike.",
    "standard": "Judged against unseen data, calibrated by reference models: this holds as far as the "
    "forgotten and the unseen people are alike.",
}


@dataclass(frozen=True)
class Losses:
    """Losses (or calibrated losses) of the same samples under two models; low: the sample is fitted well.

    Attributes:
        original, candidate: (n,) losses under the model before and after.
        groups: (n,) number of each sample's person; samples of one person are not independent.
    """

    original: Scores
    candidate: Scores
    groups: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.original) == len(self.candidate) == len(self.groups):
            raise InputError(
                "The losses of the two models are not those of the same data.",
                f"There are {len(self.original)} and {len(self.candidate)}.",
                "Score the same samples with both.",
            )
        if not (np.isfinite(self.original).all() and np.isfinite(self.candidate).all()):
            raise InputError(
                "A model's loss is not a finite number.",
                "No verdict can be derived from it.",
                "Check the model and the data: one of them is damaged.",
            )

    @property
    def people(self) -> int:
        """Number of people; of samples, if the people are unknown."""
        return len(np.unique(self.groups))


def judge(
    forget: Losses,
    unseen: Losses,
    utility: Utility,
    *,
    tests: int = 1,
    seed: int = 0,
    level: str = "quick",
    probes: Mapping[str, tuple[Losses, Losses]] | None = None,
) -> Verdict:
    """Return the verdict on a candidate from the losses of forgotten and unseen samples.

    Args:
        forget: Losses on the forget set.
        unseen: Losses on data of the same kind on which neither model was trained or tuned.
        utility: The metric on held-out retained data.
        tests: Number of candidates audited for the same request (Bonferroni).
        seed: Seed of the resampling.
        level: ``quick`` for losses, ``standard`` for calibrated losses.
        probes: (forget, unseen) for other views (see :mod:`expunge.audits.probes.altered_inputs`).
    """
    if not utility.holds:
        return collapse(utility, level)
    if not enough(forget, unseen):
        units = "people" if unseen.people < len(unseen.original) else "samples"
        reason = (
            f"{len(forget.original)} forgotten samples against {unseen.people} unseen {units} allow no "
            f"conclusion: with fewer than {UNSEEN} unseen ones (and twice the forgotten) no test can reach "
            "the 5 % level."
        )
        return Verdict("no-power", (reason,), utility=utility_json(utility), level=level)
    width = 1 - (1 - LEVEL) / tests
    figures = []
    for view, (f, u) in {OUTPUTS: (forget, unseen), **(probes or {})}.items():
        figures += residuals(f, u, width, seed, view)
    if level == "standard":  # for calibrated losses the gap carries the same information with less noise
        figures = [replace(f, judged=f.name == "loss_gap") for f in figures]
    return conclude(figures, utility, level, CAVEATS[level])


def enough(forget: Losses, unseen: Losses) -> bool:
    """Return whether there are enough unseen people for a verdict."""
    return bool(len(forget.original)) and unseen.people >= max(UNSEEN, 2 * min(forget.people, FEW))


def residuals(forget: Losses, unseen: Losses, level: float, seed: int, view: str = OUTPUTS) -> list[Figure]:
    """Return the residuals of membership AUC (loss threshold, Yeom et al. 2018) and of the mean loss gap.

    With FEW or more forgotten people, both sides are resampled by person (bootstrap). With fewer, unseen
    people replace the forgotten ones (each in turn for one person, random sets for several), and the interval
    is that of the order statistics.
    """
    generator, names = np.random.default_rng(seed), ("membership_auc", "loss_gap")
    if forget.people < FEW:
        return [_swaps(name, forget, unseen, level, generator, view) for name in names]
    drawn = multiplicities(forget.groups, DRAWS, generator), multiplicities(unseen.groups, DRAWS, generator)
    return [_bootstrap(name, forget, unseen, level, drawn, view) for name in names]


def _zero(name: str) -> float:
    """Return the value of a statistic without a trace."""
    return 0.5 if name == "membership_auc" else 0.0


def _value(name: str, forget: Scores, unseen: Scores) -> float:
    """Return a statistic of the losses (n,) and (m,)."""
    if name == "membership_auc":
        return auc(-forget, -unseen)
    return float(unseen.mean() - forget.mean())


def _bootstrap(
    name: str, forget: Losses, unseen: Losses, level: float, drawn: tuple[Scores, Scores], view: str
) -> Figure:
    """Return the residual of a statistic with a bootstrap interval over people."""
    zero = _zero(name)
    o, c = (_value(name, getattr(forget, m), getattr(unseen, m)) for m in ("original", "candidate"))
    os = _values(name, forget.original, unseen.original, *drawn)
    cs = _values(name, forget.candidate, unseen.candidate, *drawn)
    # Without a trace in the original a draw gives an unbounded residual, which counts against a pass.
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.where(os > zero, (cs - zero) / (os - zero), np.inf * np.sign(cs - zero + 1e-300))
    beyond = rho <= MARGIN if c > zero else rho >= -MARGIN
    spread = interval(os, level)
    return Figure(
        name=name,
        view=view,
        original=o,
        candidate=c,
        baseline=zero,
        null=None,
        original_interval=spread,
        rho=float((c - zero) / (o - zero)) if o > zero else float("nan"),
        rho_interval=bounds(rho, level),
        p=float((beyond.sum() + 1) / (len(rho) + 1)),
        power=spread[0] > zero,
        n_forget=len(forget.original),
        n_unseen=len(unseen.original),
        units="subjects" if forget.people < len(forget.original) else "samples",
        n_null=unseen.people,
        level=level,
    )


def _values(name: str, forget: Scores, unseen: Scores, f: Scores, u: Scores) -> Scores:
    """Return a statistic for each resampling (k,), from the multiplicities (k, n) and (k, m)."""
    f, u = f / f.sum(1, keepdims=True), u / u.sum(1, keepdims=True)
    if name == "membership_auc":
        return np.asarray(((f @ wins(-forget, -unseen)) * u).sum(1), dtype=np.float64)
    return np.asarray(u @ unseen - f @ forget, dtype=np.float64)


def _swaps(
    name: str, forget: Losses, unseen: Losses, level: float, generator: np.random.Generator, view: str
) -> Figure:
    """Return the residual of a statistic against unseen people in place of the forgotten ones."""
    names, inverse = np.unique(unseen.groups, return_inverse=True)
    count = len(names)
    if forget.people == 1:
        sets = [np.array([i]) for i in range(count)]
    else:
        sets = [generator.integers(0, count, forget.people) for _ in range(DRAWS)]
    members = [np.flatnonzero(inverse == i) for i in range(count)]
    found: dict[str, tuple[float, Scores]] = {}
    for model in ("original", "candidate"):
        f, u = getattr(forget, model), getattr(unseen, model)
        null = []
        for drawn in sets:
            rest = np.ones(len(u), bool)
            for i in drawn:
                rest[members[i]] = False
            null.append(_value(name, u[np.concatenate([members[i] for i in drawn])], u[rest]))
        found[model] = _value(name, f, u), np.array(null)
    return residual_over(
        name,
        found["original"],
        found["candidate"],
        independent=count,
        level=level,
        view=view,
        n_forget=len(forget.original),
        n_unseen=len(unseen.original),
        units="subjects" if count < len(unseen.original) else "samples",
    )


def residual_over(
    name: str,
    original: tuple[float, Scores],
    candidate: tuple[float, Scores],
    *,
    independent: int,
    level: float,
    view: str,
    n_forget: int,
    n_unseen: int,
    units: str,
) -> Figure:
    """Return the residual of a figure over draws of its null distribution.

    For each draw r of the null: ρ_r = (candidate − null_r) / (original − null_r). The interval is given by
    the order statistics of ρ_r. For exchangeable draws of any distribution it contains a further value of the
    null at the stated level (90 % requires 19 draws).

    Args:
        name: Name of the figure.
        original, candidate: Value under the model, and the null values (k,) for that model, paired by draw.
        independent: Number of independent draws.
        level: Confidence level of the interval.
        view, n_forget, n_unseen, units: See :class:`~expunge.audits.verdict.Figure`.
    """
    from scipy.stats import t

    (o, o_null), (c, c_null) = original, candidate
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.where(o > o_null, (c - c_null) / (o - o_null), np.inf * np.sign(c - c_null + 1e-300))
    low, high = bounds(o_null, level)
    spread = float(c_null.std(ddof=1)) * np.sqrt(1 + 1 / independent)
    distance = abs(c - float(c_null.mean()))
    p = float(t.sf(distance / spread, independent - 1)) if spread > 0 else float(distance == 0)
    gap = o - float(o_null.mean())
    return Figure(
        name=name,
        view=view,
        original=o,
        candidate=c,
        baseline=float(c_null.mean()),
        null=bounds(c_null, level),
        original_interval=(o - high, o - low),
        rho=(c - float(c_null.mean())) / gap if gap > 0 else float("nan"),
        rho_interval=bounds(rho, level),
        p=p,
        power=o > high,
        n_forget=n_forget,
        n_unseen=n_unseen,
        units=units,
        n_null=independent,
        level=level,
    )


def bounds(values: Scores, level: float) -> tuple[float, float]:
    """Return the order statistics between which a further exchangeable value lies with probability ``level``.

    They are the k-th smallest and the k-th largest of n values, k = ⌊(1 − level)/2 · (n + 1)⌋. If k is 0, the
    values do not suffice for the level, and the interval is the whole line.
    """
    n = len(values)
    k = int((1 - level) / 2 * (n + 1) + 1e-9)
    if not k:
        return -np.inf, np.inf
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[n - k])


def judge_absence(
    named: NDArray[np.bool_], utility: Utility, *, original: NDArray[np.bool_], tests: int = 1
) -> Verdict:
    """Return the verdict on the removal of a class, from the rate at which it is still predicted.

    Unless the interval of the original's rate lies above ABSENCE, a candidate that does not predict the class
    gets ``no-power``.

    Args:
        named: (n,) whether the candidate predicts the class, on samples that show it.
        utility: The metric on held-out data of the other classes.
        original: (n,) the same for the original, on the same samples.
        tests: Number of candidates audited for the same request (Bonferroni).

    Raises:
        InputError: If the lengths differ.
    """
    if len(named) != len(original):
        raise InputError(
            "The predictions of the two models are not those of the same samples.",
            f"There are {len(original)} and {len(named)}.",
            "Run both models on the same samples.",
        )
    if not utility.holds:
        return collapse(utility)
    hits, known, n = int(named.sum()), int(original.sum()), len(named)
    level = 1 - (1 - LEVEL) / tests
    low, high = clopper_pearson(hits, n, level) if n else (0.0, 1.0)
    before = clopper_pearson(known, n, level) if n else (0.0, 1.0)
    present = bool(before[0] > ABSENCE)
    figure = {
        "name": "class_named", "value": hits / n if n else None, "interval": (low, high), "n": n,
        "original": known / n if n else None, "original_interval": before, "power": present,
    }  # fmt: skip
    reason = (
        f"The class is still named in {hits} of {n} samples that show it, interval {span((low, high))}; "
        f"the original names it in {known}."
    )
    shown = utility_json(utility)
    if low > ABSENCE:
        failure = "under-forgetting"
        return Verdict(
            "fail", (f"Under-forgetting. {reason}",), (figure,), shown, present or None, failure=failure
        )
    if not present:
        why = (
            f"The original names the class in {known} of {n} samples that show it, interval {span(before)}: "
            f"that is not above {ABSENCE:g}, so this test could not notice if the class were still there."
        )
        return Verdict("no-power", (why,), (figure,), shown, False)
    if high <= ABSENCE:
        return Verdict("pass", (f"Absent. {reason}",), (figure,), shown, True)
    return Verdict(
        "no-power", (f"Undecided: at most {ABSENCE:g} is allowed. {reason}",), (figure,), shown, True
    )
