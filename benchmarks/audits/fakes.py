# SPDX-License-Identifier: Apache-2.0
"""Candidates that did not forget, forgot too much, or are of no use: what an auditor must not pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import nn

from expunge.audits.audit_model import ModelScores
from expunge.audits.quick import losses_of
from expunge.audits.verdict import OUTPUTS, least_utility
from expunge.tasks.protocol import Samples, Task


class Sets(Protocol):
    """The parts of the data that an edit works on."""

    forget: Samples
    retain: Samples
    guard: Samples


ROUNDS = 40  # of an edit, at most
BATCH = 32


def noised(task: Task, model: nn.Module, guard: Samples, allowed_drop: float, seed: int) -> nn.Module:
    """Return the model with the most noise on its weights that its utility bears."""
    before = task.evaluate(model, guard)[task.metric]
    least = least_utility(before, allowed_drop, len(guard))
    for scale in (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01):
        generator = torch.Generator().manual_seed(seed)
        twin = task.clone(model)
        with torch.no_grad():
            for parameter in task.parameters(twin).values():
                spread = parameter.std() if parameter.numel() > 1 else parameter.abs().mean()
                parameter += scale * spread * torch.randn(parameter.shape, generator=generator)
        if task.evaluate(twin, guard)[task.metric] >= least:
            break
    return twin


def head_edit(task: Task, model: nn.Module, sets: Sets, lr: float, seed: int) -> nn.Module:
    """Return the model with a head that was trained away from the forget set (NegGrad+ on the last layer).

    It ends when the median loss on the forget set is that on the guard data; a sample with twice that loss
    is left alone.
    """
    twin = task.clone(model)
    learns = list(task.layers(twin)[-1].parameters())
    chosen = {id(p) for p in learns}
    changeable = list(task.parameters(twin).values())
    for parameter in changeable:
        parameter.requires_grad_(id(parameter) in chosen)
    optimizer = torch.optim.Adam([p for p in changeable if id(p) in chosen], lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(ROUNDS):
        goal = float(np.median(losses_of(task, twin, sets.guard)))
        if np.median(losses_of(task, twin, sets.forget)) >= goal:
            break
        for rows in torch.randperm(len(sets.forget), generator=generator).split(BATCH):
            kept = torch.randint(0, len(sets.retain), (len(rows),), generator=generator)
            gone = task.loss(twin, task.collate([sets.forget[i] for i in rows.tolist()]))
            down = task.loss(twin, task.collate([sets.retain[i] for i in kept.tolist()])).mean()
            optimizer.zero_grad(set_to_none=True)
            (down - 0.5 * gone.clamp(max=2 * goal).mean()).backward()
            optimizer.step()
    for parameter in changeable:
        parameter.requires_grad_(True)
    task.ready(twin)
    return twin


def destroyed(task: Task, model: nn.Module, seed: int) -> nn.Module:
    """Return an untrained model."""
    return task.fresh(model, torch.Generator().manual_seed(seed))


def masked(answers: ModelScores, seed: int) -> ModelScores:
    """Return the answers of a model behind a mask that knows the forgotten pictures bit by bit.

    For each it answers such that the loss is that of an unseen sample drawn at random; a picture that
    differs, and what the features say, it cannot mask.
    """
    drawn = np.random.default_rng(seed).choice(answers.unseen[OUTPUTS], len(answers.forget[OUTPUTS]))
    return replace(answers, forget={**answers.forget, OUTPUTS: drawn})


KEPT = ("untouched", "head edit", "mask", "noised", "half")  # must not pass
LOST = ("destroyed", "over-forgotten")  # must not pass
TRUE = ("retrain", "exact")  # must not fail
ALL: Sequence[str] = (*TRUE, *KEPT, *LOST)
