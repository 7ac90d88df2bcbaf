# SPDX-License-Identifier: Apache-2.0
"""Trains many small models at once: their weights are stacked and one pass serves them all.

``torch.func.stack_module_state`` with ``vmap`` (PyTorch's model ensembling). Each model has its own start and
its own order of samples, and ends where :meth:`expunge.tasks.module.ModuleTask.retrain` would have taken it,
up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from expunge.errors import InputError
from expunge.tasks.module import DECAY, ModuleTask
from expunge.tasks.optimizer import adamw
from expunge.tasks.protocol import Samples, Task
from expunge.tasks.retrain_batches import cuts_of, retrain_settings
from expunge.tasks.working_copy import places

SMALL = 1_000_000  # parameters; above, one model alone keeps the processor busy
UNFIT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RNNBase)


def vectorisable(task: Task, model: nn.Module) -> bool:
    """Say whether many such models can be trained at once: small ones without batch norm or dropout."""
    return (
        isinstance(task, ModuleTask)
        and task.vectorised
        and not any(isinstance(m, UNFIT) for m in model.modules())
        and sum(p.numel() for p in model.parameters()) <= SMALL
    )


def retrain_many(
    task: ModuleTask,
    model: nn.Module,
    retain: Samples,
    *,
    epochs: int,
    generators: Sequence[torch.Generator],
    images: Callable[[int], None],
    **settings: Any,
) -> list[nn.Module]:
    """Train as many models as there are generators, each as ``task.retrain`` would.

    Args:
        task, model, retain, epochs, images: See the protocol.
        generators: One for each model.
        settings: ``lr`` and ``batch``, see :meth:`~expunge.tasks.module.ModuleTask.retrain`.

    Raises:
        InputError: If the model is not one for this; see :func:`vectorisable`.
    """
    if not vectorisable(task, model):
        raise InputError(
            "These models cannot be trained at once.",
            "They are large, or have batch norm, dropout or recurrent layers.",
            "Train them one after the other.",
        )
    lr, size = retrain_settings(settings)
    students = [task.fresh(model, generator) for generator in generators]
    learn = sorted(task.parameters(students[0]))
    stacked, buffers = stack_module_state(students)
    values = {k: v.detach().clone().requires_grad_(k in learn) for k, v in stacked.items()}
    fixed = {k: v for k, v in values.items() if k not in learn}
    where = places(students[0])
    base = copy.deepcopy(students[0]).to("meta")
    optimizer = adamw([values[k] for k in learn], lr, DECAY)
    cuts = cuts_of(len(retain), size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs * len(cuts), 1))
    inputs, targets = task.collate([retain[i] for i in range(len(retain))])
    if not (isinstance(inputs, torch.Tensor) and isinstance(targets, torch.Tensor)):
        raise InputError(
            "These models cannot be trained at once.",
            "They take more than one tensor, or their targets are no tensor.",
            "Train them one after the other.",
        )
    for generator in generators:
        torch.randint(2**62, (1,), generator=generator)  # retrain draws a seed for dropout here

    def loss(
        trained: dict[str, torch.Tensor],
        rest: dict[str, torch.Tensor],
        x: torch.Tensor,
        y: torch.Tensor,
    ) -> torch.Tensor:
        tensors = {**trained, **rest}
        placed = {place: tensors[name] for place, name in where.items()}
        return task.batch_loss(
            lambda given: functional_call(base, placed, (given,), tie_weights=False), x, y
        ).mean()

    gradient = vmap(grad(loss))
    for _ in range(epochs):
        orders = torch.stack([torch.randperm(len(retain), generator=g) for g in generators]).to(task.device)
        for start, end in cuts:
            rows = orders[:, start:end]
            found = gradient({k: values[k] for k in learn}, {**fixed, **buffers}, inputs[rows], targets[rows])
            for k in learn:
                values[k].grad = found[k].detach()
            optimizer.step()
            schedule.step()
            images((end - start) * len(generators))
    for i, student in enumerate(students):
        student.load_state_dict({k: v[i].detach() for k, v in {**values, **buffers}.items()}, strict=False)
        task.ready(student)
    return students
