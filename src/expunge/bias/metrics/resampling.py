# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals over people, and permutation tests of differences between groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from expunge.audits.scores import interval
from expunge.bias.metrics.classification import Indices, Numbers
from expunge.data.types import Sample

DRAWS = 1000
LEVEL = 0.95
CHUNK = 64


def weights(samples: Sequence[Sample], draws: int, generator: np.random.Generator) -> Iterator[Numbers]:
    """Yield the multiplicities of all samples (N,) in each bootstrap sample.

    People are drawn with replacement, with all their samples; a sample without a person is drawn by itself. A
    sample of several people has the product of their multiplicities: Owen & Eckles 2012 ("Bootstrapping data
    arrays of arbitrary order"), which is conservative (the interval may be too wide).
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
    """Return the percentile interval of each figure; None if it is undefined in most bootstrap samples.

    Args:
        statistic: Maps weights (N,) to figures (F,); NaN: undefined.
        drawn: The weights of the bootstrap samples.
        level: Confidence level.
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
    """Yield permuted group numbers (N,), for the null hypothesis that groups do not matter.

    If each person is in one group, the groups of people (and of samples without a person) are permuted;
    otherwise those of samples.
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
    """Return the 95 % quantile of a figure over shuffles, and the p-value of the observed figure.

    p = (1 + hits) / (1 + draws), which is never 0 (Phipson & Smyth 2010).
    """
    known = np.array([value for value in shuffled if not np.isnan(value)])
    if np.isnan(observed) or not len(known):
        return None, None
    hits = int((known >= observed - 1e-12).sum())
    return float(np.quantile(known, 0.95)), (1 + hits) / (1 + len(known))
