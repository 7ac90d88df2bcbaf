# SPDX-License-Identifier: Apache-2.0
"""How figures become a verdict: margins that are fixed here, and the rules that nobody may bend later.

Figures are residuals: how much of what told the forgotten apart in the original is left in the candidate,
ρ = (candidate − baseline) / (original − baseline). A model that never saw the forget set has ρ = 0, the
untouched model ρ = 1. ``pass`` is an equivalence: the whole interval of every judged ρ lies within ± MARGIN.
It is never given because a test found nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Word = Literal["pass", "fail", "no-power"]
MARGIN = 0.25  # of the residual
LEVEL = 0.90  # of the interval that must lie within the margin: two one-sided tests at 5 %
ALPHA = 0.025  # of a failure, for all figures together
UNCHANGED = "Nothing was changed"
SAME_TENSORS = f"{UNCHANGED}: the tensors are those of the original model."
SAME_LOSSES = f"{UNCHANGED}: every forgotten sample has the loss that it had, to the last bit."
OUTPUTS = "outputs"  # the view that every audit has: the model as it is asked by its users


@dataclass(frozen=True)
class Utility:
    """The main metric on held-out data before and after; higher is better.

    Attributes:
        before, after: The metric.
        allowed_drop: By how much it may fall.
        name, n: Which metric, on how many samples.
        reference: The metric that a model has that never saw the forget set, at the low end; None: there is
            no such model.
    """

    before: float
    after: float
    allowed_drop: float
    name: str
    n: int
    reference: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the candidate is still fit for its purpose."""
        start = self.before if self.reference is None else min(self.before, self.reference)
        return bool(self.after >= least_utility(start, self.allowed_drop, self.n))


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
        name: ``membership_auc``, ``loss_gap``, ``confidence_gap`` or ``worst_samples``.
        view: How the models were asked: ``outputs``, or after a probe.
        original, candidate: Its value for both models.
        baseline: The value where there is no trace: 0.5 or 0, or the mean of the null.
        null: Interval of the values that the null has (unseen people, or references); None: none was formed.
        original_interval: Interval of the original's value, or the value itself where only the null varies.
        rho, rho_interval: The residual; NaN where the original shows nothing.
        p: Of a residual as far from 0 (from the margin, where there is no null), on its side.
        power: Whether the forget set could be told in the original at all.
        judged: Whether the verdict depends on it; else it is there to be read.
        n_forget, n_unseen: Samples on both sides.
        units, n_null: What was resampled (``samples``, ``subjects`` or ``references``), and how many.
        level: Confidence level of the intervals.
    """

    name: str
    view: str
    original: float
    candidate: float
    baseline: float
    null: tuple[float, float] | None
    original_interval: tuple[float, float]
    rho: float
    rho_interval: tuple[float, float]
    p: float
    power: bool
    n_forget: int
    n_unseen: int
    units: str
    n_null: int
    level: float
    judged: bool = True

    @property
    def label(self) -> str:
        """The figure's name, with the view where that is not the plain one."""
        return label_of(asdict(self))


@dataclass(frozen=True)
class Verdict:
    """What the figures allow to say.

    Attributes:
        verdict: ``pass``, ``fail`` or ``no-power``.
        reasons: Plain sentences.
        figures: The numbers behind them.
        traceable: Whether the forget set could be told from unseen data in the original; None: not tested.
        level: ``quick``, ``standard`` or ``full``.
        failure: Of a failure: ``under-forgetting``, ``over-forgetting`` or ``utility``.
    """

    verdict: Word
    reasons: tuple[str, ...]
    figures: tuple[dict[str, Any], ...] = ()
    utility: dict[str, Any] = field(default_factory=dict)
    traceable: bool | None = None
    level: str = "quick"
    failure: str | None = None


def label_of(figure: Mapping[str, Any]) -> str:
    """Return the name of a figure, with its view where that is not the plain one."""
    view = figure.get("view", OUTPUTS)
    return str(figure["name"]) if view == OUTPUTS else f"{figure['name']} ({view})"


def told(utility: Utility) -> dict[str, Any]:
    """Return the utility as it is reported."""
    return asdict(utility) | {"holds": utility.holds}


def collapse(utility: Utility, level: str = "quick") -> Verdict:
    """Return the verdict on a model that is not fit for use any more."""
    said = (
        f"Utility collapse: {utility.name} fell from {utility.before:.3f} to {utility.after:.3f}, "
        f"more than the {utility.allowed_drop:g} allowed, and more than {utility.n} samples leave open."
    )
    return Verdict("fail", (said,), utility=told(utility), level=level, failure="utility")


def unchanged(verdict: Verdict, *reasons: str) -> Verdict:
    """Return the verdict on a candidate that is the original: it fails, whatever its figures are.

    Args:
        verdict: What the figures alone allow to say; they are kept.
        reasons: In what it is the original (SAME_TENSORS, SAME_LOSSES), and why.
    """
    return replace(verdict, verdict="fail", reasons=(" ".join(reasons),), failure="under-forgetting")


def conclude(figures: Sequence[Figure], utility: Utility, level: str, caveat: str) -> Verdict:
    """Return the verdict that some figures allow.

    A figure of the plain view without power ends it: then nobody could have noticed. Of other views the
    figures without power are shown and not judged.

    A pass needs every interval within the margin, and no correction (an intersection–union test). A failure
    needs one interval beyond it, and p ≤ ALPHA divided by the number of judged figures (Bonferroni).

    Args:
        figures: All figures.
        utility: Holds; see :func:`collapse`.
        level: ``quick``, ``standard`` or ``full``.
        caveat: What a reader of a pass should know of this level.
    """
    shown = tuple(asdict(f) for f in figures)
    figures = [f for f in figures if f.judged]
    blind = [f for f in figures if f.view == OUTPUTS and not f.power]
    if blind:
        said = (
            "The forget set cannot be told from unseen data even in the original model "
            f"({blind[0].label} {blind[0].original:.3f}, {_basis(blind[0])}), so this test "
            "could not notice if it were still there."
        )
        return Verdict("no-power", (said,), shown, told(utility), False, level)
    judged = [f for f in figures if f.power]
    reasons, failure, undecided = [], None, False
    for f in judged:
        low, high = f.rho_interval
        share = (
            f"{f.label}: {100 * f.rho:.0f} % of the original's trace is left, interval {span((low, high))}"
        )
        significant = f.p <= ALPHA / len(judged)
        if low > MARGIN and significant:
            failure = failure or "under-forgetting"
            reasons.append(f"Under-forgetting. {share}.")
        elif high < -MARGIN and significant:
            failure = failure or "over-forgetting"
            reasons.append(f"Over-forgetting: the forgotten fare worse than the unseen. {share}.")
        elif low < -MARGIN or high > MARGIN:
            undecided = True
            reasons.append(f"Undecided: the interval is not within ±{MARGIN:g}. {share}.")
        else:
            reasons.append(f"Within ±{MARGIN:g}. {share}.")
    word: Word = "fail" if failure else "no-power" if undecided else "pass"
    if word == "pass":
        reasons.append(caveat)
    return Verdict(word, tuple(reasons), shown, told(utility), True, level, failure)


def span(bounds: tuple[float, float]) -> str:
    """Return an interval in words."""
    return f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def _basis(figure: Figure) -> str:
    if figure.null is not None:
        return f"{figure.n_null} {figure.units} that it never saw: {span(figure.null)}"
    return f"interval {span(figure.original_interval)}"
