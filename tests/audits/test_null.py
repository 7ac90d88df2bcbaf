# SPDX-License-Identifier: Apache-2.0
"""The distance between references beside that to candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from expunge.audits.distances.klom import gaussian_klom, klom
from expunge.audits.distances.null import against_null


def test_the_null_has_the_same_bias_and_shows_what_is_left() -> None:
    generator = np.random.default_rng(3)
    references, same = generator.normal(size=(32, 400)), generator.normal(size=(16, 400))
    found = against_null(references, same, klom, generator)
    assert found.size == 16
    assert found.null.shape == found.candidate.shape == (20, 400)
    assert found.null.mean() == pytest.approx(found.candidate.mean(), rel=0.1)
    planted = against_null(references, same + 2, klom, generator)
    assert planted.candidate.mean() > 1.5 * planted.null.mean()
    few = against_null(references, same[:3] + 2, gaussian_klom, generator)
    assert few.size == 3


def test_halves_of_the_references_share_no_model() -> None:
    references = np.arange(9.0)[:, None]
    seen: list[tuple[set[float], set[float]]] = []

    def distance(one: Any, two: Any) -> Any:
        seen.append((set(one[:, 0]), set(two[:, 0])))
        return np.zeros(1)

    against_null(references, references + 100, distance, np.random.default_rng(4), splits=5)
    assert len(seen) == 10
    assert all(len(one) == len(two) == 4 and not one & two for one, two in seen)
    assert len({tuple(sorted(one)) for one, _ in seen}) > 1
