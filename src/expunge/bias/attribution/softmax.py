# SPDX-License-Identifier: Apache-2.0
"""Multinomial logistic regression with a quadratic penalty: a convex head on fixed features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from expunge.bias.attribution.gradients import Floats

PENALTY = 1e-2  # for each sample, on standardised features
ITERATIONS = 200


@dataclass(frozen=True)
class SoftmaxHead:
    """A fitted head.

    Attributes:
        weights: (D + 1, C); the last row is the bias.
        mean, spread: (D,) mean and standard deviation for standardising features.
    """

    weights: Floats
    mean: Floats
    spread: Floats

    def probabilities(self, features: Floats) -> Floats:
        """Return the probabilities (n, C) of features (n, D)."""
        return _softmax(_padded((features - self.mean) / self.spread) @ self.weights)


def fit_head(
    features: Floats, labels: NDArray[np.int64], classes: int, penalty: float = PENALTY
) -> SoftmaxHead:
    """Return the head that minimises the mean cross-entropy + penalty/2 ‖W‖², without penalty on the bias.

    Args:
        features: (n, D).
        labels: (n,), from 0.
        classes: C.
        penalty: Penalty on the weights of standardised features.
    """
    mean, spread = features.mean(0), features.std(0)
    spread = np.where(spread > 1e-8, spread, 1.0)
    x = _padded((features - mean) / spread)
    truth = np.zeros((len(labels), classes))
    truth[np.arange(len(labels)), labels] = 1.0
    shape = (x.shape[1], classes)

    def loss(flat: Floats) -> tuple[float, Floats]:
        w = flat.reshape(shape)
        p = _softmax(x @ w)
        slope = x.T @ (p - truth) / len(x)
        slope[:-1] += penalty * w[:-1]
        own = np.maximum(p[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
        value = -float(np.log(own).mean()) + penalty / 2 * float(np.square(w[:-1]).sum())
        return value, slope.ravel()

    found = minimize(
        loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}
    )
    return SoftmaxHead(found.x.reshape(shape), mean, spread)


def _padded(x: Floats) -> Floats:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(1, keepdims=True))
    p: Floats = e / e.sum(1, keepdims=True)
    return p
