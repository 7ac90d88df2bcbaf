# SPDX-License-Identifier: Apache-2.0
"""Metrics of each group with intervals, the worst group, and the gap with its p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from expunge.bias.groups import MINIMUM, Groups, Size, large_enough, sizes, too_small
from expunge.bias.metrics import classification
from expunge.bias.metrics.classification import Indices, Numbers
from expunge.bias.metrics.readings import Classified, Reading
from expunge.bias.metrics.resampling import DRAWS, LEVEL, chance, intervals, shuffles, weights
from expunge.data.types import Sample

SLOW_DRAWS = 200
CONFUSION_CLASSES = 50


@dataclass(frozen=True)
class Setting:
    """Samples, groups and resampling of a measurement.

    Attributes:
        samples: (N,) the images.
        things: (T,) sample of each grouped unit (image or object).
        groups: Groups of the units.
        minimum: Minimum of independent units for a figure.
        draws: Number of bootstrap samples and of shuffles.
        seed: Seed of both.
    """

    samples: Sequence[Sample]
    things: Sequence[Sample]
    groups: Groups
    minimum: int = MINIMUM
    draws: int = DRAWS
    seed: int = 0

    @property
    def sizes(self) -> list[Size]:
        """Sizes of the groups."""
        return sizes(self.groups, self.things)

    @property
    def compared(self) -> list[int]:
        """Numbers of the groups that are compared."""
        return large_enough(self.groups, self.sizes, self.minimum)

    @property
    def unit(self) -> str:
        """The unit of resampling."""
        return "subjects" if any(s.subjects for s in self.samples) else "samples"

    def weights(self, draws: int) -> Any:
        """Yield the weights of bootstrap samples, the same in each call."""
        return weights(self.samples, draws, np.random.default_rng(self.seed))


def summary(reading: Reading, setting: Setting) -> dict[str, Any]:
    """Return all figures, in the form of ``expunge bias measure --json``.

    ``groups`` has an entry for each group, with ``figures`` or else a sentence ``why``. ``worst`` and ``gap``
    are those of the main metric over the compared groups; null if there are fewer than two.
    """
    group, names = setting.groups.index, setting.groups.names
    found, compared = setting.sizes, setting.compared
    shown = [g for g, size in enumerate(found) if size.units >= setting.minimum]
    fast = _with_intervals(reading.table, setting, len(names), setting.draws)
    slow = _with_intervals(reading.slow_table, setting, len(names), min(SLOW_DRAWS, setting.draws))
    columns = (*reading.figures, *reading.slow)
    rows = [[*a, *b] for a, b in zip(fast, slow, strict=True)]
    entries = []
    for g, name in enumerate(names):
        large = g in shown
        entry: dict[str, Any] = {
            "group": name,
            "samples": len({setting.things[i].path for i in setting.groups.members(g)}) if large else None,
            "subjects": found[g].subjects if large else None,
            "apart": g in setting.groups.apart,
            "figures": dict(zip(columns, rows[g], strict=True)) if large else None,
            "why": None if large else too_small(found[g], setting.minimum),
        }
        if g in shown and isinstance(reading, Classified):
            entry["classes"] = _by_class(reading, group, g, len(names))
        entries.append(entry)
    return {
        "metric": reading.main,
        "overall": dict(zip(columns, rows[-1], strict=True)),
        "groups": entries,
        "worst": _worst(reading, entries, compared),
        **_spread(reading, setting, compared),
        "intervals": {
            "level": LEVEL,
            "draws": setting.draws,
            "draws_of_mAP": min(SLOW_DRAWS, setting.draws),
            "unit": setting.unit,
            "seed": setting.seed,
        },
        "minimum": setting.minimum,
    }


def figure(value: float, bounds: tuple[float, float] | None) -> dict[str, float | None]:
    """Return a figure with its interval as JSON values; undefined values are null."""
    low, high = bounds if bounds is not None else (None, None)
    return {"value": _plain(value), "low": _plain(low), "high": _plain(high)}


def _with_intervals(table: Any, setting: Setting, groups: int, draws: int) -> list[list[dict[str, Any]]]:
    """Return the rows of a table with intervals; the last row is for all groups together."""
    group, pooled = setting.groups.index, np.zeros(len(setting.groups), dtype=np.int64)

    def both(weight: Numbers | None) -> Numbers:
        return np.concatenate([table(group, groups, weight), table(pooled, 1, weight)])

    values = both(None)
    if not values.size:
        return [[] for _ in range(groups + 1)]
    bounds = intervals(lambda weight: both(weight).ravel(), setting.weights(draws))
    flat = [figure(v, b) for v, b in zip(values.ravel(), bounds, strict=True)]
    width = values.shape[1]
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def _worst(reading: Reading, entries: list[dict[str, Any]], compared: list[int]) -> dict[str, Any] | None:
    known = [
        (entries[g]["figures"][reading.main]["value"], entries[g])
        for g in compared
        if entries[g]["figures"][reading.main]["value"] is not None
    ]
    if len(known) < 2:
        return None
    entry = min(known, key=lambda pair: float(pair[0]))[1]
    return {"group": entry["group"], **entry["figures"][reading.main]}


def _spread(reading: Reading, setting: Setting, compared: list[int]) -> dict[str, Any]:
    """Return the differences between groups, with intervals and p-values."""
    if len(compared) < 2:
        return dict.fromkeys(reading.spread)
    group = setting.groups.index
    values = reading.differences(group, compared)
    bounds = intervals(lambda w: reading.differences(group, compared, w), setting.weights(setting.draws))
    shuffled = np.array([reading.differences(each, compared) for each in _shuffled(setting, compared)])
    found: dict[str, Any] = {}
    for i, name in enumerate(reading.spread):
        by_chance, p = chance(float(values[i]), shuffled[:, i].tolist())
        found[name] = {**figure(values[i], bounds[i]), "by_chance": _plain(by_chance), "p": _plain(p)}
    return found


def _shuffled(setting: Setting, compared: list[int]) -> Any:
    """Yield group numbers of all units, permuted among the compared groups."""
    group = setting.groups.index
    places = np.flatnonzero(np.isin(group, compared))
    things = [setting.things[i] for i in places.tolist()]
    generator = np.random.default_rng([setting.seed, 1])
    for permuted in shuffles(things, group[places], setting.draws, generator):
        shuffled = group.copy()
        shuffled[places] = permuted
        yield shuffled


def _by_class(reading: Classified, group: Indices, g: int, groups: int) -> dict[str, Any]:
    """Return the rates of each class in a group, and the confusion matrix."""
    few = reading.counts(group, groups).of([g])
    table = None
    if reading.classes <= CONFUSION_CLASSES:
        own = group == g
        zero = np.zeros(int(own.sum()), dtype=np.int64)
        table = classification.confusion(
            reading.truth[own], reading.predicted[own], zero, 1, reading.classes
        )[0].tolist()
    rates = {
        "samples": few.truth[0],
        "recall": classification.recall(few)[0],
        "precision": classification.precision(few)[0],
        "selection_rate": classification.selection_rate(few)[0],
        "false_positive_rate": classification.false_positive_rate(few)[0],
    }
    return {**{k: [_plain(x) for x in v] for k, v in rates.items()}, "confusion": table}


def _plain(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 5)
