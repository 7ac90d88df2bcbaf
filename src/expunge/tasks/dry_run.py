# SPDX-License-Identifier: Apache-2.0
"""A dry run of model, loss and data sets on a few samples, to find errors before any work is done."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from expunge.errors import InputError
from expunge.tasks.faults import raise_as_input_error
from expunge.tasks.module import ModuleTask
from expunge.tasks.protocol import Samples
from expunge.tasks.working_copy import holds_tensors


def dry_run(task: ModuleTask, model: nn.Module, sets: Mapping[str, Samples], *, gradients: bool) -> None:
    """Run the first two samples of every data set through a copy of the model.

    Args:
        task: The task; it records the form of the outputs and targets.
        model: The model; it is not changed.
        sets: Data sets by name; empty ones are skipped.
        gradients: Whether the weights must receive gradients.

    Raises:
        InputError: If a check fails; the message names the data set.
    """
    working_model = task.clone(model)
    for name, data in sets.items():
        if not len(data):
            continue
        try:
            losses = _losses(task, working_model, data)
        except InputError as error:
            where = f"It happened with the first samples of the {name} set."
            raise InputError(error.what, f"{error.why} {where}".strip(), error.next_step) from (
                error.__cause__ or error
            )
        if gradients:
            _check_gradients(task, working_model, losses)
            gradients = False
    task.vectorised = task.vectorised and not holds_tensors(working_model)


def _losses(task: ModuleTask, model: nn.Module, data: Samples) -> torch.Tensor:
    batch = task.collate([data[0], data[min(1, len(data) - 1)]])
    losses = task.learn_form(model, batch)
    if not bool(torch.isfinite(losses).all()):
        raise InputError(
            "The model's loss is not a finite number.",
            f"It is {losses.detach().flatten()[0].item():g} for the first sample.",
            "Look at the model's weights, the inputs and the loss: one of them gives NaN or infinity.",
        )
    return losses


def _check_gradients(task: ModuleTask, model: nn.Module, losses: torch.Tensor) -> None:
    weights = list(task.parameters(model).values())
    advice = "Let the loss depend on the weights: no torch.no_grad() or detach() in model or loss."
    if not losses.requires_grad:
        raise InputError(
            "The loss cannot be differentiated.", "No gradient reaches it from the weights.", advice
        )
    with raise_as_input_error("The loss cannot be differentiated.", advice):
        gradients = torch.autograd.grad(losses.sum(), weights, allow_unused=True)
    if all(g is None for g in gradients):
        raise InputError(
            "No gradient reaches the copy's weights.",
            "The loss depends on other tensors only: those of the model that was copied, for instance.",
            "Undo changes to model.forward (a wrapper holds the original), or give the plain module.",
        )
    if any(g is not None and g.layout != torch.strided for g in gradients):
        raise InputError(
            "The model's gradients are sparse.",
            "Methods need dense ones.",
            "Set sparse=False in its embeddings: for m in model.modules(): m.sparse = False.",
        )
