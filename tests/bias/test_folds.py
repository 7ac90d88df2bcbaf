# SPDX-License-Identifier: Apache-2.0
"""Who judges a label never saw it, nor another picture of the person: K-fold cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from expunge.bias.folds import folds_of, out_of_fold
from expunge.errors import InputError
from expunge.tasks.module import ModuleTask

PEOPLE = [f"p{i // 3}" for i in range(24)]


class Watched(ModuleTask):
    """Notes what each training was given."""

    def retrain(self, model: nn.Module, retain: Any, **settings: Any) -> nn.Module:
        self.saw = [int(retain[i][0]) for i in range(len(retain))]
        return super().retrain(model, retain, **settings)


def test_no_model_predicts_a_person_it_was_trained_on() -> None:
    task = Watched(nn.CrossEntropyLoss(reduction="none"), fresh=lambda: nn.Linear(1, 2))
    data = TensorDataset(torch.arange(24.0)[:, None], torch.arange(24) % 2)
    judged, images = [], []
    for _, rows in out_of_fold(
        task, nn.Linear(1, 2), data, PEOPLE, folds=3, epochs=2, on_images=images.append
    ):
        assert sorted([*task.saw, *rows.tolist()]) == list(range(24))
        assert not {PEOPLE[i] for i in task.saw} & {PEOPLE[i] for i in rows}
        judged += rows.tolist()
    assert sorted(judged) == list(range(24))
    assert sum(images) == 2 * 2 * 24  # two epochs, K − 1 times the data


def test_folds_are_even_and_drawn_by_the_seed() -> None:
    found = folds_of(PEOPLE, 4)
    assert np.bincount(found).tolist() == [6, 6, 6, 6]
    assert (found == folds_of(PEOPLE, 4)).all()
    assert (found != folds_of(PEOPLE, 4, seed=1)).any()


@pytest.mark.parametrize("folds", [0, 1, 9])
def test_folds_that_do_not_fit(folds: int) -> None:
    with pytest.raises(InputError, match="folds do not fit"):
        folds_of(PEOPLE, folds)
