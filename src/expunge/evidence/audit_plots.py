# SPDX-License-Identifier: Apache-2.0
"""The plots of an audit's page; people are numbered and not named."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.audits.raw_losses import RawLosses
from expunge.audits.references import PairedLosses, calibrated, confidence
from expunge.audits.roc import LEAST_EXPECTED, roc
from expunge.audits.scores import Scores
from expunge.audits.verdict import MARGIN, OUTPUTS, label_of
from expunge.errors import InputError
from expunge.evidence import svg

FORGOTTEN, UNSEEN, BEFORE, AFTER, NULL = "#c2410c", "#64748b", "#b45309", "#1d4ed8", "#0f766e"
WIDE, LEFT, RIGHT = 760, 64, 740
MOST_MARKS = 400  # most people drawn in a column
RUG = 120  # most samples drawn one by one
MODELS = (("original", "Before", BEFORE), ("candidate", "After", AFTER))


def verdict_scores(paired: PairedLosses, model: str, level: str) -> Scores:
    """Return the scores that an audit level judges (n,); high scores mean "member".

    Args:
        paired: Losses of the samples under both models and the references.
        model: ``original`` or ``candidate``.
        level: ``standard``: scores calibrated by references; otherwise log odds.
    """
    losses = getattr(paired, model)
    return -calibrated(losses, paired.references) if level == "standard" else confidence(losses)


def distributions(raw: RawLosses) -> str:
    """Return a plot of both models' fit to forgotten and unseen samples, with the band of the references."""
    forget, unseen = (
        {m: confidence(getattr(part, m)) for m in ("original", "candidate")} for part in raw.views[OUTPUTS]
    )
    others = [confidence(row) for row in raw.views[OUTPUTS][0].references]
    everything = np.concatenate([*forget.values(), *unseen.values(), *others])
    low, high = np.quantile(everything, [0.005, 0.995])
    pad = max(0.06 * (high - low), 1e-3)
    grid = np.linspace(low - pad, high + pad, 160)
    x = svg.Scale(float(grid[0]), float(grid[-1]), LEFT, RIGHT)
    band = np.array([_density(row, grid) for row in others])
    curves = {(m, k): _density(part[m], grid) for m in forget for k, part in (("f", forget), ("u", unseen))}
    drawn = ""
    for row, (model, title, _) in enumerate(MODELS):
        floor = 165 + row * 190
        top = max(float(c.max()) for c in (curves[model, "f"], curves[model, "u"], *band))
        y = svg.Scale(0, top, floor, floor - 130)
        if len(band):
            up = list(zip(map(x, grid), map(y, band.max(0)), strict=True))
            down = list(zip(map(x, grid), map(y, band.min(0)), strict=True))[::-1]
            drawn += svg.area([*up, *down], NULL, 0.22)
        points = list(zip(map(x, grid), map(y, curves[model, "u"]), strict=True))
        drawn += svg.area([(LEFT, floor), *points, (RIGHT, floor)], UNSEEN, 0.28)
        drawn += svg.curve(points, UNSEEN, 1.5)
        drawn += svg.curve(zip(map(x, grid), map(y, curves[model, "f"]), strict=True), FORGOTTEN, 2.5)
        if len(forget[model]) <= RUG:
            drawn += "".join(
                svg.line(x(v), floor - 7, x(v), floor, FORGOTTEN, 1.2)
                for v in forget[model].tolist()
                if grid[0] < v < grid[-1]
            )
        drawn += svg.text(LEFT, floor - 138, title, fill=svg.INK, size=14)
        label = "fit of the model to the sample, in log odds (right: knows it well)" if row else ""
        drawn += svg.axis_x(x, floor, floor, label)
    entries = [("forgotten", FORGOTTEN), ("unseen", UNSEEN)]
    if others:
        entries.append((f"forgotten, under {len(others)} models that never saw them", NULL))
    return svg.picture(WIDE, 400, drawn + _legend(entries), "Distributions of forgotten and unseen samples")


def curve_of_rates(raw: RawLosses, level: str) -> str | None:
    """Return the ROC curves on log scales; None if the scores are constant."""
    forget, unseen = raw.views[OUTPUTS]
    m = len(unseen.original)
    floor = 10.0 ** math.floor(math.log10(min(1e-3, 1 / m)))
    x, y = svg.Scale(floor, 1, LEFT, 560, log=True), svg.Scale(floor, 1, 400, 40, log=True)
    grid = np.geomspace(floor, 1, 120)
    drawn = ""
    unreliable = min(LEAST_EXPECTED / m, 1.0)  # rates below rest on too few false positives
    drawn += svg.tag("rect", x=LEFT, y=40, width=round(x(unreliable) - LEFT, 1), height=360, fill="#eef1f5")
    names = ["100 %" if t == 1 else f"{100 * t:g} %" for t in x.ticks()]
    drawn += svg.axis_x(x, 400, 40, "unseen samples taken for forgotten (false positive rate)", names=names)
    for t, name in zip(y.ticks(), names, strict=True):
        drawn += svg.line(LEFT, y(t), 560, y(t)) + svg.text(LEFT - 6, y(t) + 4, name, anchor="end")
    if level == "full":
        rates = np.array([_rates(confidence(f), confidence(u), grid) for f, u in
                          zip(forget.references, unseen.references, strict=True)])  # fmt: skip
        up = [(x(a), y(b)) for a, b in zip(grid, rates.max(0), strict=True)]
        down = [(x(a), y(b)) for a, b in zip(grid, rates.min(0), strict=True)][::-1]
        drawn += svg.area([*up, *down], NULL, 0.2)
    drawn += svg.curve([(x(g), y(g)) for g in (floor, 1.0)], svg.SOFT, 1.2, "5 4")
    for (model, _, colour), width in zip(MODELS, (5, 2.2), strict=True):  # wider, to show under the second
        try:
            found = roc(verdict_scores(forget, model, level), verdict_scores(unseen, model, level))
        except InputError:
            return None
        steps = [(x(a), y(b)) for a, b in zip(found.fpr, found.tpr, strict=True)]
        drawn += svg.curve(_stairs(steps), colour, width)
    for rate in (0.01, 0.001):
        drawn += svg.line(x(rate), 40, x(rate), 400, svg.INK, 1, "2 4")
    entries = [("before", BEFORE), ("after", AFTER), ("guessing", svg.SOFT)]
    if level == "full":
        entries.insert(2, ("never saw them", NULL))
    if unreliable > floor:
        entries += [("luck: fewer than 10", "#d5dce5"), ("false positives", "#ffffff")]
    legend = "".join(
        svg.tag("rect", x=585, y=60 + 24 * i, width=14, height=4, fill=colour)
        + svg.text(606, 67 + 24 * i, name, fill=svg.INK)
        for i, (name, colour) in enumerate(entries)
    )
    side = svg.text(LEFT, 26, "forgotten samples found (true positive rate)", fill=svg.INK)
    return svg.picture(WIDE, 442, drawn + legend + side, "ROC curves on logarithmic scales")


def people(raw: RawLosses, level: str) -> str:
    """Return a plot with a mark for every person: their mean score under both models."""
    forget, unseen = raw.views[OUTPUTS]
    columns, kinds = [], []
    for model, title, _ in MODELS:
        for paired, groups, kind in (
            (forget, raw.forget_groups, "forgotten"),
            (unseen, raw.unseen_groups, "unseen"),
        ):
            means = _means(verdict_scores(paired, model, level), groups)
            columns.append((f"{title}: {kind}", means))
            kinds.append(kind)
    values = np.concatenate([means for _, means in columns])
    low, high = float(values.min()), float(values.max())
    y = svg.Scale(low - 0.05 * (high - low) - 1e-6, high + 0.05 * (high - low) + 1e-6, 300, 40)
    drawn = svg.axis_y(y, LEFT, RIGHT)
    if level == "full":
        null = np.array([_means(confidence(row), raw.forget_groups) for row in forget.references])
        top, bottom = y(float(null.max())), y(float(null.min()))
        drawn += svg.tag("rect", x=LEFT, y=top, width=RIGHT - LEFT, height=max(bottom - top, 1), fill=NULL,
                         fill_opacity=0.13)  # fmt: skip
        drawn += svg.text(RIGHT, 22, "green: forgotten, under models that never saw them", anchor="end",
                          fill=NULL)  # fmt: skip
    wide = (RIGHT - LEFT) / 4
    for i, ((title, means), kind) in enumerate(zip(columns, kinds, strict=True)):
        middle = LEFT + (i + 0.5) * wide
        drawn += svg.text(middle, 322, title, anchor="middle", fill=svg.INK)
        drawn += svg.text(middle, 338, f"{len(means)}", anchor="middle", size=11)
        centre = y(float(np.median(means)))
        drawn += svg.line(middle - 0.3 * wide, centre, middle + 0.3 * wide, centre, svg.INK, 1.5)
        chosen = _spread(means)
        for k, offset in zip(chosen, _offsets(means[chosen], y, 0.42 * wide), strict=True):
            value = means[k]
            name = kind if kind == "forgotten" and len(means) == 1 else f"{kind} {k + 1}"
            at = middle + offset, y(float(value)), FORGOTTEN if kind == "forgotten" else UNSEEN
            drawn += (svg.diamond if kind == "forgotten" else svg.dot)(*at, f"{name}: {svg.number(value)}")
    drawn += svg.line(LEFT + 2 * wide, 30, LEFT + 2 * wide, 340, svg.SOFT, 1, "3 4")
    drawn += svg.text(LEFT, 22, "mean score (up: known better); the line is the median", fill=svg.INK)
    return svg.picture(WIDE, 350, drawn, "Every forgotten and unseen person under both models")


def residuals(figures: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a plot of the remaining share of the trace, by figure, with intervals and the margin.

    Args:
        figures: Figures of an audit, as ``expunge audit --json`` prints them.

    Returns:
        SVG; None if no figure has a finite share.
    """
    rows = [f for f in figures if f.get("rho") is not None and math.isfinite(f["rho"])]
    if not rows:
        return None
    x = svg.Scale(-1, 1.5, 285, RIGHT)
    floor = 40 + 28 * len(rows)
    drawn = svg.tag("rect", x=x(-MARGIN), y=30, width=round(x(MARGIN) - x(-MARGIN), 1), height=floor - 30,
                    fill=NULL, fill_opacity=0.16)  # fmt: skip
    drawn += svg.axis_x(x, floor, 30, "share of the original's trace that is left (0: none, 1: all)")
    drawn += svg.text(x(0), 22, "allowed", anchor="middle", fill=NULL)
    for i, f in enumerate(rows):
        y, (low, high) = 52 + 28 * i, (_bound(b, s) for b, s in zip(f["rho_interval"], (-1, 1), strict=True))
        counts = f["judged"] and f["power"]
        colour = AFTER if counts else "#94a3b8"
        drawn += svg.line(x(low), y, x(high), y, colour, 3)
        for bound, edge, sign in ((low, x.low, -1), (high, x.high, 1)):
            if bound * sign > edge * sign:
                at = x(bound)
                drawn += svg.area([(at + 8 * sign, y), (at, y - 5), (at, y + 5)], colour, 1)
        if x.low <= f["rho"] <= x.high:
            drawn += svg.dot(x(f["rho"]), y, colour, f"{label_of(f)}: {svg.number(f['rho'])}", 5)
        drawn += svg.text(271, y + 4, label_of(f) + ("" if counts else " *"), anchor="end", fill=svg.INK)
    return svg.picture(WIDE, floor + 44, drawn, "How much of the trace is left, by figure")


def _bound(value: float | None, sign: int) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.inf * sign


def _density(values: Scores, grid: Scores) -> Scores:
    """Return a Gaussian kernel density estimate with Silverman's bandwidth at the grid points (g,)."""
    spread = min(float(values.std()), float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.34 or np.inf)
    width = max(0.9 * spread * len(values) ** -0.2, 0.015 * float(grid[-1] - grid[0]))
    z = (grid[:, None] - values[None]) / width
    return np.asarray(np.exp(-0.5 * z**2).mean(1) / (width * math.sqrt(2 * math.pi)), dtype=np.float64)


def _rates(members: Scores, others: Scores, grid: Scores) -> Scores:
    """Return the true positive rate at every false positive rate of the grid (g,)."""
    found = roc(members, others)
    return np.asarray(found.tpr[np.searchsorted(found.fpr, grid, side="right") - 1], dtype=np.float64)


def _stairs(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found = points[:1]
    for before, now in itertools.pairwise(points):
        found += [(now[0], before[1]), now]
    return found


def _means(scores: Scores, groups: NDArray[np.int64]) -> Scores:
    inverse = np.unique(groups, return_inverse=True)[1]
    return np.asarray(np.bincount(inverse, scores) / np.bincount(inverse), dtype=np.float64)


def _spread(values: Scores) -> list[int]:
    """Return the indices of the people to draw: all, or MOST_MARKS, evenly by rank and with both ends."""
    order = np.argsort(values, kind="stable")
    ranks = np.linspace(0, len(values) - 1, min(len(values), MOST_MARKS)).round().astype(int)
    return sorted(order[ranks].tolist())


def _offsets(values: Scores, y: svg.Scale, reach: float) -> list[float]:
    """Return each mark's horizontal offset, at most ``reach``, so that marks do not overlap."""
    taken: dict[int, int] = {}
    found = []
    for value in values:
        row = int(y(float(value)) // 7)
        count = taken[row] = taken.get(row, -1) + 1
        side = (count + 1) // 2 * 8.0 * (1 if count % 2 else -1)
        found.append(max(-reach, min(reach, side)))
    return found


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    drawn, at = "", float(LEFT + 150)
    for name, colour in entries:
        drawn += svg.tag("rect", x=at, y=15, width=14, height=10, fill=colour, fill_opacity=0.7)
        drawn += svg.text(at + 20, 25, name, fill=svg.INK)
        at += 40 + 7 * len(name)
    return drawn
