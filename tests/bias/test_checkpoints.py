# SPDX-License-Identifier: Apache-2.0
"""What shards say of samples that they never saw, and who belongs together."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from expunge.bias.attribution.checkpoints import (
    Checkpoint,
    evaluate_batches,
    held_out,
    label_doubts_of,
    visit_all,
)
from expunge.bias.attribution.trak import trak
from expunge.bias.label_quality import subject_groups
from expunge.data.types import Sample
from expunge.tasks.module import ModuleTask

TASK = ModuleTask(nn.CrossEntropyLoss(reduction="none"))


def constant(p: float) -> nn.Module:
    """Return a model that gives the first of two classes a probability, whatever it sees."""
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([p / (1 - p), 1.0]).log())
    return TASK.clone(model)


def shard(number: int, p: float, *rows: int, final: bool = True) -> Checkpoint:
    return Checkpoint(lambda: constant(p), np.array(rows), final=final, shard=number)


def test_only_shards_that_never_saw_a_sample_speak_of_it_as_they_last_stood() -> None:
    data = TensorDataset(torch.zeros((4, 1)), torch.zeros(4, dtype=torch.long))
    points = [
        shard(0, 0.5, 0, 3, final=False),
        shard(0, 0.9, 0, 3),
        shard(1, 0.6, 1, 3),
        shard(2, 0.2, 3),
        Checkpoint(lambda: constant(0.01), np.array([3])),  # of everybody's data
    ]
    found = held_out(lambda model, part: label_doubts_of(TASK, model, part), points, data)[:, 0]
    np.testing.assert_allclose(
        found[:3], [(0.4 + 0.8) / 2, (0.1 + 0.8) / 2, (0.1 + 0.4 + 0.8) / 3], rtol=1e-6
    )
    assert np.isnan(found[3])
    rows = held_out(
        lambda m, part: evaluate_batches(TASK, m, part, lambda m, b: m(b[0]).softmax(1)), points, data
    )
    np.testing.assert_allclose(rows[:3, 0], 1 - found[:3], rtol=1e-6)


def test_shards_speak_also_where_the_published_model_was_polished_on_everything() -> None:
    data = TensorDataset(torch.zeros((2, 1)), torch.zeros(2, dtype=torch.long))
    points = [
        shard(0, 0.9, 0, final=False),
        shard(1, 0.6, 1, final=False),
        Checkpoint(lambda: constant(0.01), np.arange(2), final=True),
    ]
    found = held_out(lambda model, part: label_doubts_of(TASK, model, part), points, data)[:, 0]
    np.testing.assert_allclose(found, [0.4, 0.1], rtol=1e-6)


def test_without_shards_nothing_is_held_out() -> None:
    data = TensorDataset(torch.zeros((3, 1)), torch.zeros(3, dtype=torch.long))
    points = [Checkpoint(lambda: constant(0.5), np.arange(3))]
    assert np.isnan(held_out(lambda model, part: label_doubts_of(TASK, model, part), points, data)).all()


def test_a_sample_is_attributed_by_its_own_shard() -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn((8, 3), generator=generator), torch.arange(8) % 2)
    models = [TASK.clone(nn.Linear(3, 2)) for _ in range(2)]
    halves = [np.arange(0, 4), np.arange(4, 8)]
    points = [Checkpoint(lambda m=m: m, rows) for m, rows in zip(models, halves, strict=True)]  # type: ignore[misc]
    together = trak(visit_all(TASK, points, data, data), 8)
    for point, rows in zip(points, halves, strict=True):
        alone = trak(visit_all(TASK, [point], data, data), 8)
        np.testing.assert_allclose(together[rows], alone[rows])


def test_people_in_one_picture_belong_together() -> None:
    def sample(*people: str) -> Sample:
        return Sample("x", "train", "", subjects=people)

    found = subject_groups([sample("a"), sample("b"), sample("a", "c"), sample("c"), sample(), sample()])
    assert found[0] == found[2] == found[3]
    assert len({found[0], found[1], found[4], found[5]}) == 4
    assert len(set(subject_groups([sample(), sample()]))) == 2
