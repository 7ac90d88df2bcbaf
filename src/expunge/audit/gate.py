# SPDX-License-Identifier: Apache-2.0
"""The quick verdict: what can be said without a reference model, by comparison with unseen data.

Figures are residuals: how much of what told the forgotten from the unseen in the original is left in the
candidate, ρ = candidate / original. A model that never saw the forget set has ρ = 0, **if** forgotten and
unseen data are alike but for the training; the untouched model has ρ = 1. ``pass`` is an equivalence: the
whole interval of every judged ρ lies within ± MARGIN, which is fixed here and not chosen by anybody who looks
at results. It is never given because a test found nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from expunge.audit.scores import Scores, auc, clopper_pearson, interval, resample
from expunge.errors import InputError

Word = Literal["pass", "fail", "no-power"]
MARGIN = 0.25
LEVEL = 0.90
DRAWS = 2000
LEAST = 5  # fewer scores on a side and no interval means anything
ABSENCE = 0.05  # largest rate at which a removed class may still be named


@dataclass(frozen=True)
class Losses:
    """Losses per sample of the same data under two models.

    Attributes:
        original, candidate: (n,) under the model before and after.
        groups: (n,) number of the person of every sample; samples of one person are not independent.
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
                "Nothing can be judged by it.",
                "Look at the model and the data: one of them is damaged.",
            )


@dataclass(frozen=True)
class Utility:
    """The main metric on held-out data before and after; higher is better.

    Attributes:
        before, after: The metric.
        allowed_drop: By how much it may fall.
        name, n: Which metric, on how many samples.
    """

    before: float
    after: float
    allowed_drop: float
    name: str
    n: int

    @property
    def holds(self) -> bool:
        """Whether the candidate is still fit for its purpose."""
        return bool(self.after >= least_utility(self.before, self.allowed_drop, self.n))


def resolution(value: float, n: int) -> float:
    """Return what n samples can tell apart: the standard error of a rate; 0 for what is no rate."""
    return math.sqrt(value * (1 - value) / n) if n and 0 <= value <= 1 else 0.0


def least_utility(before: float, allowed_drop: float, n: int) -> float:
    """Return the least utility that holds: a drop below the resolution of n samples is no evidence."""
    return before - max(allowed_drop, resolution(before, n))


@dataclass(frozen=True)
class Figure:
    """A judged figure with all that is needed to read it.

    Attributes:
        name: ``membership_auc`` or ``loss_gap``.
        original, candidate: Its value for both models; 0.5 and 0 mean that nothing can be told.
        original_interval: Interval of the original's value: the power of the test.
        rho, rho_interval: The residual.
        n_forget, n_unseen: Samples on both sides.
        level: Confidence level of the intervals.
    """

    name: str
    original: float
    candidate: float
    original_interval: tuple[float, float]
    rho: float
    rho_interval: tuple[float, float]
    n_forget: int
    n_unseen: int
    level: float

    @property
    def power(self) -> bool:
        """Whether members could be told in the original at all."""
        return self.original_interval[0] > (0.5 if self.name == "membership_auc" else 0.0)


@dataclass(frozen=True)
class Verdict:
    """What the figures allow to say.

    Attributes:
        verdict: ``pass``, ``fail`` or ``no-power``.
        reasons: Plain sentences.
        figures: The numbers behind them.
        traceable: Whether the forget set could be told from unseen data in the original; None: not tested.
    """

    verdict: Word
    reasons: tuple[str, ...]
    figures: tuple[dict[str, Any], ...] = ()
    utility: dict[str, Any] = field(default_factory=dict)
    traceable: bool | None = None


def judge(forget: Losses, unseen: Losses, utility: Utility, *, tests: int = 1, seed: int = 0) -> Verdict:
    """Judge a candidate by how the losses of forgotten and of unseen samples differ.

    Args:
        forget: Losses on the forget set.
        unseen: Losses on data of the same kind that neither model was trained on, or tuned by.
        utility: The metric on held-out retained data.
        tests: How many candidates are judged for the same request (Bonferroni).
        seed: Of the bootstrap.
    """
    told = asdict(utility) | {"holds": utility.holds}
    if not utility.holds:
        return _collapse(utility, told)
    if len(forget.original) < LEAST or len(unseen.original) < LEAST:
        return Verdict(
            "no-power",
            (
                f"{len(forget.original)} forgotten and {len(unseen.original)} unseen samples are too few: "
                f"at least {LEAST} of each are needed to conclude anything.",
            ),
            utility=told,
        )
    figures = residuals(forget, unseen, 1 - (1 - LEVEL) / tests, seed)
    word, reasons = _conclude(figures)
    return Verdict(word, reasons, tuple(asdict(f) for f in figures), told, all(f.power for f in figures))


def residuals(forget: Losses, unseen: Losses, level: float, seed: int) -> list[Figure]:
    """Return the residuals of membership AUC (loss threshold, Yeom et al. 2018) and of the mean loss gap."""
    generator = np.random.default_rng(seed)
    rows = list(
        zip(
            resample(forget.groups, DRAWS, generator),
            resample(unseen.groups, DRAWS, generator),
            strict=True,
        )
    )
    found = []
    for name in ("membership_auc", "loss_gap"):
        zero = 0.5 if name == "membership_auc" else 0.0
        o = _value(name, forget.original, unseen.original)
        c = _value(name, forget.candidate, unseen.candidate)
        os = np.array([_value(name, forget.original[f], unseen.original[u]) for f, u in rows])
        cs = np.array([_value(name, forget.candidate[f], unseen.candidate[u]) for f, u in rows])
        # A draw in which the original shows nothing bounds no residual: it counts against a pass.
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = np.where(os > zero, (cs - zero) / (os - zero), np.inf * np.sign(cs - zero + 1e-300))
        found.append(
            Figure(
                name=name,
                original=o,
                candidate=c,
                original_interval=interval(os, level),
                rho=float((c - zero) / (o - zero)) if o > zero else float("nan"),
                rho_interval=_bounds(rho, level),
                n_forget=len(forget.original),
                n_unseen=len(unseen.original),
                level=level,
            )
        )
    return found


def _value(name: str, forget: Scores, unseen: Scores) -> float:
    if name == "membership_auc":
        return auc(-forget, -unseen)
    return float(unseen.mean() - forget.mean())


def _bounds(values: Scores, level: float) -> tuple[float, float]:
    ordered = np.sort(values)
    tail = (1 - level) / 2
    low = ordered[int(np.floor(tail * (len(ordered) - 1)))]
    high = ordered[int(np.ceil((1 - tail) * (len(ordered) - 1)))]
    return float(low), float(high)


def _conclude(figures: list[Figure]) -> tuple[Word, tuple[str, ...]]:
    if not all(f.power for f in figures):
        blind = next(f for f in figures if not f.power)
        return "no-power", (
            "The forget set cannot be told from unseen data even in the original model "
            f"({blind.name} {blind.original:.3f}, interval {_span(blind.original_interval)}), so this test "
            "could not notice if it were still there.",
        )
    reasons = []
    word: Word = "pass"
    for f in figures:
        low, high = f.rho_interval
        share = (
            f"{f.name}: {100 * f.rho:.0f} % of the original's trace is left, interval {_span((low, high))}"
        )
        if low > MARGIN:
            word = "fail"
            reasons.append(f"Under-forgetting. {share}.")
        elif high < -MARGIN:
            word = "fail"
            reasons.append(f"Over-forgetting: the forgotten fare worse than the unseen. {share}.")
        elif low < -MARGIN or high > MARGIN:
            word = "fail" if word == "fail" else "no-power"
            reasons.append(f"Undecided: the interval is wider than ±{MARGIN:g}. {share}.")
        else:
            reasons.append(f"Within ±{MARGIN:g}. {share}.")
    if word == "pass":
        reasons.append(
            "No reference model was trained: this holds as far as forgotten and unseen data are alike."
        )
    return word, tuple(reasons)


def judge_absence(named: NDArray[np.bool_], utility: Utility, *, tests: int = 1) -> Verdict:
    """Judge the removal of a class: how often the candidate still names it where it is.

    Args:
        named: (n,) whether the class is in the candidate's prediction, on samples that show it.
        utility: The metric on held-out data of the other classes.
        tests: How many candidates are judged for the same request (Bonferroni).
    """
    told = asdict(utility) | {"holds": utility.holds}
    if not utility.holds:
        return _collapse(utility, told)
    hits, n = int(named.sum()), len(named)
    level = 1 - (1 - LEVEL) / tests
    low, high = clopper_pearson(hits, n, level) if n else (0.0, 1.0)
    figure = {"name": "class_named", "value": hits / n if n else None, "interval": (low, high), "n": n}
    said = f"The class is still named in {hits} of {n} samples that show it, interval {_span((low, high))}."
    if high <= ABSENCE:
        return Verdict("pass", (f"Absent. {said}",), (figure,), told)
    if low > ABSENCE:
        return Verdict("fail", (f"Under-forgetting. {said}",), (figure,), told)
    return Verdict("no-power", (f"Undecided: at most {ABSENCE:g} is allowed. {said}",), (figure,), told)


def _collapse(utility: Utility, told: dict[str, Any]) -> Verdict:
    said = (
        f"Utility collapse: {utility.name} fell from {utility.before:.3f} to {utility.after:.3f}, "
        f"more than the {utility.allowed_drop:g} allowed, and more than {utility.n} samples leave open."
    )
    return Verdict("fail", (said,), utility=told)


def _span(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.2f} to {bounds[1]:.2f}"
