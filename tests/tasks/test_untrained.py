# SPDX-License-Identifier: Apache-2.0
"""Re-initialised models keep no trained weight."""

from __future__ import annotations

import copy

import any_model as a
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from expunge.errors import InputError
from expunge.tasks.module import ModuleTask
from expunge.tasks.untrained import reset_layers


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_pruned_model_is_reset_like_an_unpruned_one() -> None:
    whole, pruned = a.net(), a.net()
    prune.random_unstructured(pruned[0], "weight", 0.5)
    mask = pruned[0].weight_mask.clone()
    reset_layers(whole, draws())
    reset_layers(pruned, draws())
    assert torch.equal(pruned[0].weight_orig, whole[0].weight)
    assert torch.equal(pruned[0].weight_mask, mask)
    assert torch.equal(pruned[0].weight, whole[0].weight * mask)
    assert torch.equal(pruned[2].weight, whole[2].weight)


def test_a_layer_that_keeps_a_weight_is_refused() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        normed = nn.utils.weight_norm(nn.Linear(3, 3))  # its reset_parameters() changes a computed tensor
    with pytest.raises(InputError, match="cannot be re-initialised"):
        reset_layers(normed, draws())


def test_fresh_must_return_another_model_which_is_copied() -> None:
    given = a.net()
    before = copy.deepcopy(given.state_dict())
    task = ModuleTask(a.CE, fresh=lambda: given, trained=True)
    with pytest.raises(InputError, match="returns the trained model"):
        task.fresh(a.net(), draws())
    other = a.net()
    reset_layers(other, draws())
    twin = task.fresh(other, draws())
    twin[0].weight.data.zero_()
    assert all(torch.equal(v, before[k]) for k, v in given.state_dict().items())
    with pytest.raises(InputError, match="another architecture"):
        ModuleTask(a.CE, fresh=lambda: nn.Linear(2, 2)).fresh(a.net(), draws())
