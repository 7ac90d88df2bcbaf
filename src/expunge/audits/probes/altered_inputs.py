# SPDX-License-Identifier: Apache-2.0
"""Probes with altered inputs and with a refitted head, against edits that hide a trace.

A mask that recognises forgotten images, or an edit of the last layer, changes the outputs but not the learned
features. ``noisy inputs`` adds small noise to the images; ``refitted head`` trains the last layer again on
retained data, with the features fixed. Under both, a true retrain behaves like its references.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.audits.quick import BATCH, losses_of
from expunge.audits.scores import Scores
from expunge.errors import InputError
from expunge.tasks.protocol import Batch, Samples, Task
from expunge.training.random_state import isolated_rng

NOISY = "noisy inputs"
REFIT = "refitted head"
NOISE = 0.02  # standard deviation of the noise, in units of the inputs' own
STEPS = 100  # training batches of a head
RATE = 5e-3


def takes_noise(task: Task, data: Samples) -> bool:
    """Return whether noise can be added to the inputs; it cannot for text or integer images."""
    try:
        task.inputs(task.collate([data[0]]))
    except InputError:
        return False
    return True


def noisy_losses(task: Task, model: nn.Module, data: Samples, seed: int = 0) -> Scores:
    """Return the loss of each sample (n,) with noise on its inputs; the noise is the same for all models.

    The noise is Gaussian, with NOISE times the standard deviation of the batch's inputs. Noisy inputs are
    clipped to the range of the inputs.
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
    """Return a copy whose last layer is trained on retained data, with AdamW for STEPS batches.

    Args:
        task: Task of the model.
        model: It is not changed.
        retain: Training data of the head, without the forget set.
        seed: Seed of the order; the batches are the same for all models.
    """
    twin = task.clone(model)
    head = {id(p) for p in task.layers(twin)[-1].parameters()}
    changeable = list(task.parameters(twin).values())
    trainable = [p for p in changeable if id(p) in head]
    if not trainable:  # the probe also trains a frozen head
        trainable = [p for p in task.layers(twin)[-1].parameters() if p.is_floating_point()]
    for parameter in changeable:
        parameter.requires_grad_(False)
    for parameter in trainable:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trainable, lr=RATE, weight_decay=0.0)
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
