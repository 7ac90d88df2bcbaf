# SPDX-License-Identifier: Apache-2.0
"""Decision rules that turn figures into a verdict, fixed before any result is seen.

A figure is a residual: the share of the original's trace that remains in the candidate,
ρ = (candidate − baseline) / (original − baseline). A model that never saw the forget set has ρ = 0, the
untouched model ρ = 1. ``pass`` is an equivalence: the whole interval of each judged ρ lies within ± MARGIN.
It is never given because a test found no difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Word = Literal["pass", "fail", "no-power"]
MARGIN = 0.25  # margin of the residual
LEVEL = 0.90  # level of the interval that must lie within the margin: two one-sided tests at 5 %
ALPHA = 0.025  # level of a failure, over all figures
UNCHANGED = "Nothing was changed"
SAME_TENSORS = f"{UNCHANGED}: the tensors are those of the original model."
SAME_LOSSES = f"{UNCHANGED}: every forgotten sample has the loss that it had, to the last bit."
OUTPUTS = "outputs"  # the view of every audit: the plain outputs of the model


@dataclass(frozen=True)
class Utility:
    """The main metric on held-out data before and after; higher is better.

    Attributes:
        before, after: Value of the metric.
        allowed_drop: Maximum drop.
        name, n: Name of the metric, and number of samples.
        reference: Low end of the metric over reference models; None: there are no references.
    """

    before: float
    after: float
    allowed_drop: float
    name: str
    n: int
    reference: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the metric fell by no more than is allowed."""
        start = self.before if self.reference is None else min(self.before, self.reference)
        return bool(self.after >= least_utility(start, self.allowed_drop, self.n))


def resolution(value: float, n: int) -> float:
    """Return the standard error of a rate over n samples; 0 for a metric that is not a rate."""
    return math.sqrt(value * (1 - value) / n) if n and 0 <= value <= 1 else 0.0


def least_utility(before: float, allowed_drop: float, n: int) -> float:
    """Return the minimum utility: ``before`` minus the larger of allowed drop and resolution."""
    return before - max(allowed_drop, resolution(before, n))


@dataclass(frozen=True)
class Figure:
    """A figure of an audit, with intervals, baseline and sample sizes.

    Attributes:
        name: ``membership_auc``, ``loss_gap``, ``confidence_gap`` or ``worst_samples``.
        view: ``outputs``, or the name of a probe.
        original, candidate: Value for both models.
        baseline: Value without a trace: 0.5 or 0, or the mean of the null.
        null: Interval of the null distribution (unseen people, or references); None: there is none.
        original_interval: Interval of the original's value; the value itself if only the null varies.
        rho, rho_interval: The residual; NaN if the original shows no trace.
        p: One-sided p-value of the residual against 0 (against the margin, if there is no null).
        power: Whether the test finds a trace in the original.
        n_forget, n_unseen: Numbers of samples.
        units, n_null: What was resampled (``samples``, ``subjects`` or ``references``), and how many.
        level: Confidence level of the intervals.
        judged: Whether the verdict depends on the figure; else it is only reported.
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
        """The figure's name, with the view if it is not ``outputs``."""
        return label_of(asdict(self))


@dataclass(frozen=True)
class Verdict:
    """A verdict with its reasons and figures.

    Attributes:
        verdict: ``pass``, ``fail`` or ``no-power``.
        reasons: Plain sentences.
        figures: The figures, as JSON values.
        utility: The utility, as JSON values.
        traceable: Whether the test finds a trace in the original; None: not tested.
        level: ``quick``, ``standard`` or ``full``.
        failure: Kind of a failure: ``under-forgetting``, ``over-forgetting`` or ``utility``.
    """

    verdict: Word
    reasons: tuple[str, ...]
    figures: tuple[dict[str, Any], ...] = ()
    utility: dict[str, Any] = field(default_factory=dict)
    traceable: bool | None = None
    level: str = "quick"
    failure: str | None = None


def label_of(figure: Mapping[str, Any]) -> str:
    """Return the name of a figure, with its view if it is not ``outputs``."""
    view = figure.get("view", OUTPUTS)
    return str(figure["name"]) if view == OUTPUTS else f"{figure['name']} ({view})"


def utility_json(utility: Utility) -> dict[str, Any]:
    """Return the utility as JSON values."""
    return asdict(utility) | {"holds": utility.holds}


def collapse(utility: Utility, level: str = "quick") -> Verdict:
    """Return the verdict on a model whose utility does not hold."""
    reason = (
        f"Utility collapse: {utility.name} fell from {utility.before:.3f} to {utility.after:.3f}, "
        f"more than the {utility.allowed_drop:g} allowed and the uncertainty of {utility.n} samples."
    )
    return Verdict("fail", (reason,), utility=utility_json(utility), level=level, failure="utility")


def unchanged(verdict: Verdict, *reasons: str) -> Verdict:
    """Return the verdict ``fail`` for a candidate that equals the original.

    Args:
        verdict: The verdict of the figures, which are kept.
        reasons: What is equal (SAME_TENSORS, SAME_LOSSES), and why.
    """
    return replace(verdict, verdict="fail", reasons=(" ".join(reasons),), failure="under-forgetting")


def conclude(figures: Sequence[Figure], utility: Utility, level: str, caveat: str) -> Verdict:
    """Return the verdict that follows from the figures.

    A figure without power in the view ``outputs`` gives ``no-power``. In other views, figures without power
    are reported and not judged. ``pass`` needs every interval within the margin; as an intersection–union
    test it needs no correction. ``fail`` needs one interval beyond the margin, with p ≤ ALPHA divided by the
    number of judged figures (Bonferroni).

    Args:
        figures: All figures.
        utility: Utility that holds; see :func:`collapse`.
        level: ``quick``, ``standard`` or ``full``.
        caveat: Sentence on the limits of this level, added to a pass.
    """
    shown = tuple(asdict(f) for f in figures)
    figures = [f for f in figures if f.judged]
    blind = [f for f in figures if f.view == OUTPUTS and not f.power]
    if blind:
        reason = (
            "The forget set cannot be distinguished from unseen data even in the original model "
            f"({blind[0].label} {blind[0].original:.3f}, {_basis(blind[0])}), so this test "
            "could not notice if it were still there."
        )
        return Verdict("no-power", (reason,), shown, utility_json(utility), False, level)
    judged = [f for f in figures if f.power]
    reasons, failure, undecided = [], None, False
    for f in judged:
        low, high = f.rho_interval
        share = (
            f"{f.label}: {100 * f.rho:.0f} % of the original's trace remains, interval {span((low, high))}"
        )
        significant = f.p <= ALPHA / len(judged)
        if low > MARGIN and significant:
            failure = failure or "under-forgetting"
            reasons.append(f"Under-forgetting. {share}.")
        elif high < -MARGIN and significant:
            failure = failure or "over-forgetting"
            reasons.append(f"Over-forgetting: the forgotten are fitted worse than the unseen. {share}.")
        elif low < -MARGIN or high > MARGIN:
            undecided = True
            reasons.append(f"Undecided: the interval is not within ±{MARGIN:g}. {share}.")
        else:
            reasons.append(f"Within ±{MARGIN:g}. {share}.")
    word: Word = "fail" if failure else "no-power" if undecided else "pass"
    if word == "pass":
        reasons.append(caveat)
    return Verdict(word, tuple(reasons), shown, utility_json(utility), True, level, failure)


def span(bounds: tuple[float, float]) -> str:
    """Return an interval as text."""
    return f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def _basis(figure: Figure) -> str:
    """Return the interval that a figure was compared with, as text."""
    if figure.null is not None:
        return f"{figure.n_null} {figure.units} that it never saw: {span(figure.null)}"
    return f"interval {span(figure.original_interval)}"
