# SPDX-License-Identifier: Apache-2.0
"""KLoM against numpy's histograms, Gaussian KL against torch, and both against what equal models give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from expunge.audits.distances.klom import BINS, SMALLEST, gaussian_kl, gaussian_klom, klom


def slow(p: Any, q: Any) -> float:
    """One sample, by numpy's histogram."""
    p, q = np.clip(p, -100, 100), np.clip(q, -100, 100)
    edges = np.histogram_bin_edges(np.concatenate([p, q]), BINS)
    one, two = (np.histogram(v, edges)[0] / len(v) for v in (p, q))
    return float(sum(a * np.log(a / max(b, SMALLEST)) for a, b in zip(one, two, strict=True) if a))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), m=st.integers(1, 30), scale=st.floats(0.01, 200))
def test_klom_is_its_definition(seed: int, n: int, m: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    p, q = generator.normal(0, scale, (n, 4)), generator.normal(scale, scale, (m, 4))
    assert klom(p, q) == pytest.approx([slow(p[:, i], q[:, i]) for i in range(4)])
    order = generator.permutation(n)
    assert klom(p[order], q) == pytest.approx(klom(p, q))


def test_klom_at_its_limits() -> None:
    p = np.random.default_rng(0).normal(size=(200, 3))
    assert klom(p, p) == pytest.approx(np.zeros(3))
    assert klom(p, p + 50) == pytest.approx(np.full(3, -np.log(SMALLEST)), abs=2.0)
    assert klom(np.ones((5, 2)), np.ones((5, 2))) == pytest.approx(np.zeros(2))
    assert klom(np.zeros((5, 2)), np.full((5, 2), 1e9)) == pytest.approx(np.full(2, -np.log(SMALLEST)))


@settings(deadline=None)
@given(
    st.floats(-5, 5),
    st.floats(0.1, 5),
    st.floats(-5, 5),
    st.floats(0.1, 5),
    st.floats(0.1, 9),
    st.floats(-9, 9),
)
def test_gaussian_kl_is_torchs(
    mp: float, sp: float, mq: float, sq: float, scale: float, shift: float
) -> None:
    truth = kl_divergence(
        *(
            Normal(torch.tensor(m, dtype=torch.float64), torch.tensor(s, dtype=torch.float64))
            for m, s in ((mp, sp), (mq, sq))
        )
    )
    found = float(gaussian_kl(mp, sp, mq, sq))
    assert found == pytest.approx(float(truth), abs=1e-12)
    assert found >= -1e-12
    # Invariant to the unit of the margin.
    again = gaussian_kl(mp * scale + shift, sp * scale, mq * scale + shift, sq * scale)
    assert float(again) == pytest.approx(found, rel=1e-6, abs=1e-9)


def test_both_tend_to_the_closed_form() -> None:
    generator = np.random.default_rng(1)
    p, q = generator.normal(0, 1, (40_000, 3)), generator.normal(1, 1.5, (40_000, 3))
    truth = float(gaussian_kl(0, 1, 1, 1.5))
    assert gaussian_klom(p, q) == pytest.approx(np.full(3, truth), rel=0.03)
    assert klom(p, q) == pytest.approx(np.full(3, truth), rel=0.1)


def test_with_few_models_equal_ones_look_different() -> None:
    """The bias figures stated in the documentation."""
    generator = np.random.default_rng(2)

    def equal(size: int) -> tuple[Any, Any]:
        return generator.normal(size=(size, 3000)), generator.normal(size=(size, 3000))

    assert np.mean(klom(*equal(16))) == pytest.approx(3.8, abs=0.15)
    assert np.mean(klom(*equal(100))) == pytest.approx(0.36, abs=0.05)
    four = gaussian_klom(*equal(4))
    assert np.median(four) == pytest.approx(0.5, abs=0.1)
    assert 4 < np.quantile(four, 0.95) < 7
