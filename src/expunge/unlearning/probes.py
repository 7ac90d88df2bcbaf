# SPDX-License-Identifier: Apache-2.0
"""Other ways to ask a model than its plain outputs, for what hides behind them.

A mask that recognises the forgotten pictures, or an edit of the last layer, changes what is said and not what
is known. ``noisy inputs`` asks about pictures that differ a little from those forgotten; ``refitted head``
lets the last layer learn again, from retained data alone, on the features as they are. A true retrain gives
the same as its references under both.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.audit.scores import Scores
from expunge.errors import InputError
from expunge.exact.trainer import isolated_rng
from expunge.tasks.protocol import Batch, Samples, Task
from expunge.unlearning.judging import BATCH, losses_of

NOISY = "noisy inputs"
REFIT = "refitted head"
NOISE = 0.02  # standard deviation of the noise, in units of the inputs' own
STEPS = 100  # batches that a head sees
RATE = 5e-3


def takes_noise(task: Task, data: Samples) -> bool:
    """Whether noise can be added to the inputs: not to words, or to pictures as whole numbers."""
    try:
        task.inputs(task.collate([data[0]]))
    except InputError:
        return False
    return True


def noisy_losses(task: Task, model: nn.Module, data: Samples, seed: int = 0) -> Scores:
    """Return the loss of every sample (n,), with noise on its inputs; the same noise for every model.

    Gaussian, NOISE times the standard deviation of the batch's inputs, cut off at the ends of their range.
    """
    generator = torch.Generator().manual_seed(seed)

    def disturbed(batch: Batch) -> Batch:
        x = task.inputs(batch)
        noise = torch.randn(x.shape, generator=generator).to(x.device, x.dtype)
        range_ = task.input_range(batch)
        y = x + NOISE * x.std() * noise
        return task.with_inputs(batch, y.clamp(*range_) if range_ else y)

    return losses_of(task, model, data, disturbed)


def refit_head(task: Task, model: nn.Module, retain: Samples, seed: int = 0) -> nn.Module:
    """Return a copy whose last layer has learnt from retained data, AdamW for STEPS batches; the rest stays.

    Args:
        task: The model family.
        model: It is not changed.
        retain: What the head learns from; never the forget set.
        seed: Of the order; the same batches for every model.
    """
    twin = task.clone(model)
    head = {id(p) for p in task.layers(twin)[-1].parameters()}
    changeable = list(task.parameters(twin).values())
    learns = [p for p in changeable if id(p) in head]
    if not learns:  # a frozen head: for the probe it learns all the same
        learns = [p for p in task.layers(twin)[-1].parameters() if p.is_floating_point()]
    for parameter in changeable:
        parameter.requires_grad_(False)
    for parameter in learns:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learns, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    with isolated_rng():
        for _ in range(STEPS):
            if len(order) < min(BATCH, len(retain)):
                order += torch.randperm(len(retain), generator=generator).tolist()
            rows, order = order[:BATCH], order[BATCH:]
            loss = task.loss(twin, task.collate([retain[i] for i in rows])).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    for parameter in changeable:
        parameter.requires_grad_(True)
    task.ready(twin)
    return twin
