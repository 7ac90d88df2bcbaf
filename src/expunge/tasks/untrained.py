# SPDX-License-Identifier: Apache-2.0
"""Initialises modules anew, as before training, and makes sure that nothing learnt is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from expunge.errors import InputError
from expunge.exact.trainer import isolated_rng
from expunge.tasks.faults import blame
from expunge.tasks.working_copy import working_copy

FRESH = "Give `fresh`, a function that returns an untrained model."


@torch.no_grad()
def reset_layers(module: nn.Module, generator: torch.Generator) -> None:
    """Call ``reset_parameters`` of every layer below a module; masks of pruned layers stay.

    Layers that have none stay as they are if they are frozen.

    Raises:
        InputError: If a layer that learns has none, or it leaves a parameter as it is.
    """
    found = [m for m in module.modules() if next(m.parameters(recurse=False), None) is not None]
    layers = [m for m in found if hasattr(m, "reset_parameters")]
    without = [
        type(m).__name__
        for m in found
        if m not in layers and any(p.requires_grad for p in m.parameters(recurse=False))
    ]
    if without:
        raise InputError(
            f"A layer of type {without[0]} cannot be initialised anew.",
            "It has parameters, and no reset_parameters().",
            FRESH,
        )
    with isolated_rng():
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        for layer in layers:
            with _plain_names(layer):
                _reset(layer)


def untrained(
    fresh: Callable[[], nn.Module], model: nn.Module, generator: torch.Generator, *, trained: bool
) -> nn.Module:
    """Return a copy of what the user's function gives.

    Args:
        fresh: Returns an untrained model.
        model: The trained one, which it must resemble.
        generator: Seeds torch's global generator for the call.
        trained: Whether equal weights are an error.

    Raises:
        InputError: If it gives something else than an untrained model of the same architecture.
    """
    with isolated_rng():
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        with blame("The function `fresh` failed.", "It must return an untrained model."):
            made = fresh()
    twin = working_copy(made, "model that `fresh` returns").module
    own, new = (
        {k: v for k, v in m.state_dict().items() if isinstance(v, torch.Tensor)} for m in (model, twin)
    )
    other = sorted(k for k in own.keys() | new.keys() if k not in own or k not in new)
    other += sorted(k for k in own.keys() & new.keys() if own[k].shape != new[k].shape)
    if other:
        raise InputError(
            "`fresh` returns a model of another architecture.",
            f"They differ in the tensor '{other[0]}'.",
            "Let it build the model as the original was built, with what was added since.",
        )
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    if (
        trained
        and learning
        and all(torch.equal(own[k], new[k].to(own[k].device, own[k].dtype)) for k in learning)
    ):
        raise InputError(
            "`fresh` returns the trained model.",
            "All its weights are equal to the original's.",
            "Let it build a new model with random weights.",
        )
    return twin


def _reset(layer: nn.Module) -> None:
    own: dict[str, Any] = {
        k: p for k, p in layer.named_parameters(recurse=False) if p.is_floating_point() or p.is_complex()
    }
    for parameter in own.values():
        parameter.fill_(float("nan"))  # so that what is left of it can be told
    layer.reset_parameters()  # type: ignore[operator]
    left = [name for name, p in own.items() if bool(torch.isnan(p).any())]
    if left:
        raise InputError(
            f"A layer of type {type(layer).__name__} cannot be initialised anew.",
            f"Its reset_parameters() leaves '{left[0]}' as it is.",
            FRESH,
        )


@contextmanager
def _plain_names(layer: nn.Module) -> Iterator[None]:
    """Let a pruned layer's parameters have their names from before pruning."""
    hooks = [h for h in layer._forward_pre_hooks.values() if isinstance(h, BasePruningMethod)]
    names = [str(hook._tensor_name) for hook in hooks]
    for name in names:
        del layer.__dict__[name]
        layer._parameters[name] = layer._parameters.pop(f"{name}_orig")
    try:
        yield
    finally:
        for name in names:
            layer._parameters[f"{name}_orig"] = layer._parameters.pop(name)
        for hook in hooks:
            hook(layer, ())
