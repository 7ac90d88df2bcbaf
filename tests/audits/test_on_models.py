# SPDX-License-Identifier: Apache-2.0
"""The attacks on real, small models that memorise: members are found, and halves drawn at random are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch.utils.data import Subset, TensorDataset
from unlearning_world import LOSS, trained

from expunge.audits.attacks.lira import offline, online
from expunge.audits.attacks.rmia import rmia
from expunge.audits.scores import auc
from expunge.audits.signals import collect
from expunge.tasks.module import ModuleTask

MODELS, POOL, POPULATION = 9, 240, 300


@pytest.fixture(scope="module")
def world() -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """Signals (models, pool + population) of models that saw random halves of the pool, and which halves."""
    x, y = load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    rows = generator.permutation(len(x))[: POOL + POPULATION]
    wrong = generator.random(len(rows)) < 0.2
    labels = np.where(wrong, (y[rows] + generator.integers(1, 10, len(rows))) % 10, y[rows])
    data = TensorDataset(torch.tensor(x[rows] / 16, dtype=torch.float32), torch.tensor(labels))
    task, seen, found = ModuleTask(LOSS), np.zeros((MODELS, POOL), bool), []
    for k in range(MODELS):
        seen[k, generator.permutation(POOL)[: POOL // 2]] = True
        model = trained(Subset(data, np.flatnonzero(seen[k]).tolist()), k)  # type: ignore[arg-type]
        found.append(collect(task, model, data))
    return {name: np.stack([f[name] for f in found]) for name in found[0]}, seen


def areas(
    signals: dict[str, NDArray[np.float64]], seen: NDArray[np.bool_], member: NDArray[np.bool_]
) -> dict[str, float]:
    """AUC of every attack on the first model; ``member``: a guess at what it saw. Others are references."""
    loss, logit = signals["negative_loss"], signals["logit"]
    some = ~seen[1:].all(axis=0)
    scores = {
        "loss": loss[0, :POOL],
        "margin": signals["margin"][0, :POOL],
        "rmia": rmia(
            loss[0, :POOL][some],
            loss[1:, :POOL][:, some],
            loss[0, POOL:],
            loss[1:, POOL:],
            unseen=~seen[1:, some],
        ),
        "lira, offline": offline(logit[0, :POOL][some], logit[1:, :POOL][:, some], seen[1:, some]),
    }
    both = some & seen[1:].any(axis=0)
    scores["lira, online"] = online(logit[0, :POOL][both], logit[1:, :POOL][:, both], seen[1:, both])
    kept = {"rmia": some, "lira, offline": some, "lira, online": both}
    found = {}
    for name, values in scores.items():
        own = member[kept[name]] if name in kept else member
        found[name] = auc(values[own], values[~own])
    return found


def test_members_are_found(world: tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]) -> None:
    signals, seen = world
    found = areas(signals, seen, seen[0])
    assert found["loss"] > 0.6
    for attack in ("rmia", "lira, offline", "lira, online"):
        assert found[attack] > found["loss"] + 0.05, found


def test_nothing_is_found_where_the_half_is_drawn_at_random(
    world: tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]],
) -> None:
    signals, seen = world
    generator = np.random.default_rng(1)
    drawn = [areas(signals, seen, generator.permutation(seen[0])) for _ in range(30)]
    for attack in drawn[0]:
        assert abs(np.mean([d[attack] for d in drawn]) - 0.5) < 0.03
