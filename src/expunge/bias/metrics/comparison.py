# SPDX-License-Identifier: Apache-2.0
"""Compare models on the same samples: the change for each group, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from expunge.bias.metrics.classification import Numbers, gap
from expunge.bias.metrics.readings import Reading
from expunge.bias.metrics.resampling import intervals
from expunge.bias.metrics.summary import Setting, figure


def changes(readings: Sequence[Reading], setting: Setting) -> dict[str, Any]:
    """Return the change of the main metric from the first model to each other one.

    The same bootstrap samples of people are used for all models, so that the intervals are those of the
    change.

    Returns:
        ``groups``: the change for each compared group, one entry for each later model; ``worst``: the change
        of the lowest value over groups; ``gap``: the change of the gap. Each is ``{value, low, high}``.
        ``harmed``: for each later model the groups whose metric fell significantly.
    """
    compared, groups = setting.compared, len(setting.groups.names)
    group = setting.groups.index

    def values(weight: Numbers | None) -> Numbers:
        rows = []
        for reading in readings:
            own = reading.table(group, groups, weight)[compared, 0]
            known = own[~np.isnan(own)]
            rows.append([*own, known.min() if len(known) else np.nan, gap(own)])
        table = np.array(rows)
        return table[1:] - table[:1]

    observed = values(None)
    bounds = intervals(lambda weight: values(weight).ravel(), setting.weights(setting.draws))
    flat = [figure(v, b) for v, b in zip(observed.ravel(), bounds, strict=True)]
    width = len(compared) + 2
    rows = [flat[i : i + width] for i in range(0, len(flat), width)]
    names = [setting.groups.names[g] for g in compared]
    return {
        "groups": {name: [row[i] for row in rows] for i, name in enumerate(names)},
        "worst": [row[-2] for row in rows] if len(compared) > 1 else None,
        "gap": [row[-1] for row in rows] if len(compared) > 1 else None,
        "harmed": [
            [n for n, f in zip(names, row, strict=False) if f["high"] is not None and f["high"] < 0]
            for row in rows
        ],
    }
