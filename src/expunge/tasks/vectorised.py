# SPDX-License-Identifier: Apache-2.0
"""Training of many small models at once, with stacked weights and one forward pass for all.

It uses ``torch.func.stack_module_state`` with ``vmap`` (PyTorch's model ensembling). Each model has its own
start and sample order, and equals the result of :meth:`expunge.tasks.module.ModuleTask.retrain` up to
rounding.
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
from expunge.tasks.retrain_batches import batch_bounds, retrain_settings
from expunge.tasks.working_copy import places

SMALL = 1_000_000  # parameters; a larger model already uses the whole processor
UNFIT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RNNBase)


def vectorisable(task: Task, model: nn.Module) -> bool:
    """Return whether many such models can be trained at once: small ones without batch norm or dropout."""
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
    """Return one retrained model per generator, each trained as by ``task.retrain``.

    Args:
        task, model, retain, epochs, images: See the protocol.
        generators: One generator per model.
        settings: ``lr`` and ``batch``, see :meth:`~expunge.tasks.module.ModuleTask.retrain`.

    Raises:
        InputError: If the model cannot be vectorised; see :func:`vectorisable`.
    """
    if not vectorisable(task, model):
        raise InputError(
            "These models cannot be trained at once.",
            "They are large, or have batch norm, dropout or recurrent layers.",
            "Train them one after the other.",
        )
    lr, size = retrain_settings(settings)
    students = [task.fresh(model, generator) for generator in generators]
    trainable = sorted(task.parameters(students[0]))
    stacked, buffers = stack_module_state(students)
    values = {k: v.detach().clone().requires_grad_(k in trainable) for k, v in stacked.items()}
    fixed = {k: v for k, v in values.items() if k not in trainable}
    names_by_place = places(students[0])
    base = copy.deepcopy(students[0]).to("meta")
    optimizer = adamw([values[k] for k in trainable], lr, DECAY)
    bounds = batch_bounds(len(retain), size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs * len(bounds), 1))
    inputs, targets = task.collate([retain[i] for i in range(len(retain))])
    if not (isinstance(inputs, torch.Tensor) and isinstance(targets, torch.Tensor)):
        raise InputError(
            "These models cannot be trained at once.",
            "They take more than one tensor, or their targets are no tensor.",
            "Train them one after the other.",
        )
    for generator in generators:
        torch.randint(2**62, (1,), generator=generator)  # `retrain` draws its dropout seed at this point

    def loss(
        trained: dict[str, torch.Tensor],
        rest: dict[str, torch.Tensor],
        x: torch.Tensor,
        y: torch.Tensor,
    ) -> torch.Tensor:
        tensors = {**trained, **rest}
        placed = {place: tensors[name] for place, name in names_by_place.items()}
        return task.batch_loss(
            lambda given: functional_call(base, placed, (given,), tie_weights=False), x, y
        ).mean()

    gradient = vmap(grad(loss))
    for _ in range(epochs):
        orders = torch.stack([torch.randperm(len(retain), generator=g) for g in generators]).to(task.device)
        for start, end in bounds:
            rows = orders[:, start:end]
            gradients = gradient(
                {k: values[k] for k in trainable}, {**fixed, **buffers}, inputs[rows], targets[rows]
            )
            for k in trainable:
                values[k].grad = gradients[k].detach()
            optimizer.step()
            schedule.step()
            images((end - start) * len(generators))
    for i, student in enumerate(students):
        student.load_state_dict({k: v[i].detach() for k, v in {**values, **buffers}.items()}, strict=False)
        task.ready(student)
    return students
