# SPDX-License-Identifier: Apache-2.0
"""How far a figure can be trusted: intervals by drawing people anew, and what chance alone would make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from expunge.audit.scores import interval
from expunge.bias.metrics import Indices, Numbers
from expunge.data.types import Sample

DRAWS = 1000
LEVEL = 0.95
CHUNK = 64


def weights(samples: Sequence[Sample], draws: int, generator: np.random.Generator) -> Iterator[Numbers]:
    """Yield for each bootstrap sample how often every sample counts in it (N,).

    People are drawn with replacement, all their samples with them; a sample that shows nobody is drawn by
    itself. One that shows several counts the product of how often each was drawn: Owen & Eckles 2012
    ("Bootstrapping data arrays of arbitrary order"), which errs towards too wide an interval.
    """
    names: dict[tuple[str, str], int] = {}
    rows: list[int] = []
    units: list[int] = []
    for row, sample in enumerate(samples):
        for key in [("subject", s) for s in sample.subjects] or [("sample", sample.path)]:
            rows.append(row)
            units.append(names.setdefault(key, len(names)))
    count = len(names)
    row_of, unit_of = np.array(rows, dtype=np.int64), np.array(units, dtype=np.int64)
    first = np.flatnonzero(np.diff(row_of, prepend=-1)) if count else row_of
    for start in range(0, draws, CHUNK):
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=min(CHUNK, draws - start))
        yield from np.multiply.reduceat(drawn[:, unit_of].astype(np.float64), first, axis=1)


def intervals(
    statistic: Callable[[Numbers], Numbers], drawn: Iterator[Numbers], level: float = LEVEL
) -> list[tuple[float, float] | None]:
    """Return the percentile interval of each figure; None where it could not be told in most draws.

    Args:
        statistic: From weights (N,) to figures (F,); NaN: not to be told.
        drawn: The weights of the bootstrap samples.
        level: How many of the bootstrap samples the interval holds.
    """
    values = np.array([statistic(each) for each in drawn])
    found: list[tuple[float, float] | None] = []
    for column in values.T:
        known = column[~np.isnan(column)]
        found.append(interval(known, level) if 2 * len(known) > len(column) else None)
    return found


def shuffles(
    samples: Sequence[Sample], group: Indices, draws: int, generator: np.random.Generator
) -> Iterator[Indices]:
    """Yield group numbers (N,) as they would be if groups meant nothing.

    Where each person is in one group, people change places with their groups, and so does each sample that
    shows nobody; otherwise samples do.
    """
    unit = ["\0".join(s.subjects) or f"\0\0{s.path}" for s in samples]
    own: dict[str, set[int]] = {}
    for name, number in zip(unit, group.tolist(), strict=True):
        own.setdefault(name, set()).add(number)
    if any(len(numbers) > 1 for numbers in own.values()):
        for _ in range(draws):
            yield generator.permutation(group)
        return
    place = {name: i for i, name in enumerate(own)}
    where = np.array([place[name] for name in unit], dtype=np.int64)
    of_unit = np.array([next(iter(numbers)) for numbers in own.values()], dtype=np.int64)
    for _ in range(draws):
        yield generator.permutation(of_unit)[where]


def chance(observed: float, shuffled: Sequence[float]) -> tuple[float | None, float | None]:
    """Return what a shuffled figure reaches in 5 of 100 cases, and the share that reaches the observed one.

    The share is (1 + hits) / (1 + draws), which never is 0 (Phipson & Smyth 2010).
    """
    known = np.array([value for value in shuffled if not np.isnan(value)])
    if np.isnan(observed) or not len(known):
        return None, None
    hits = int((known >= observed - 1e-12).sum())
    return float(np.quantile(known, 0.95)), (1 + hits) / (1 + len(known))
