# SPDX-License-Identifier: Apache-2.0
"""Re-initialisation of modules, with checks that no trained weight remains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from expunge.errors import InputError
from expunge.tasks.faults import raise_as_input_error
from expunge.tasks.working_copy import working_copy
from expunge.training.random_state import isolated_rng

FRESH = "Give `fresh`, a function that returns an untrained model."


@torch.no_grad()
def reset_layers(module: nn.Module, generator: torch.Generator) -> None:
    """Call ``reset_parameters`` of every layer of a module; the masks of pruned layers are kept.

    Frozen layers without ``reset_parameters`` are left unchanged.

    Raises:
        InputError: If a trainable layer has no ``reset_parameters``, or it leaves a parameter unchanged.
    """
    parametric = [m for m in module.modules() if next(m.parameters(recurse=False), None) is not None]
    layers = [m for m in parametric if hasattr(m, "reset_parameters")]
    unsupported = [
        type(m).__name__
        for m in parametric
        if m not in layers and any(p.requires_grad for p in m.parameters(recurse=False))
    ]
    if unsupported:
        raise InputError(
            f"A layer of type {unsupported[0]} cannot be re-initialised.",
            "It has parameters, and no reset_parameters().",
            FRESH,
        )
    with isolated_rng():
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        for layer in layers:
            with _original_names(layer):
                _reset(layer)


def untrained(
    fresh: Callable[[], nn.Module], model: nn.Module, generator: torch.Generator, *, trained: bool
) -> nn.Module:
    """Return a working copy of the model that the user's ``fresh`` function returns.

    Args:
        fresh: Returns an untrained model.
        model: The trained model, whose architecture it must have.
        generator: Seeds torch's global generator for the call.
        trained: Whether weights equal to the model's are an error.

    Raises:
        InputError: If the result is not an untrained model of the same architecture.
    """
    with isolated_rng():
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        with raise_as_input_error("The function `fresh` failed.", "It must return an untrained model."):
            result = fresh()
    fresh_model = working_copy(result, "model that `fresh` returns").module
    trained_state, fresh_state = (
        {k: v for k, v in m.state_dict().items() if isinstance(v, torch.Tensor)} for m in (model, fresh_model)
    )
    differing = sorted(
        k for k in trained_state.keys() | fresh_state.keys() if k not in trained_state or k not in fresh_state
    )
    differing += sorted(
        k for k in trained_state.keys() & fresh_state.keys() if trained_state[k].shape != fresh_state[k].shape
    )
    if differing:
        raise InputError(
            "`fresh` returns a model of another architecture.",
            f"They differ in the tensor '{differing[0]}'.",
            "Let it build the model as the original was built, with what was added since.",
        )
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    if (
        trained
        and trainable
        and all(
            torch.equal(trained_state[k], fresh_state[k].to(trained_state[k].device, trained_state[k].dtype))
            for k in trainable
        )
    ):
        raise InputError(
            "`fresh` returns the trained model.",
            "All its weights are equal to the original's.",
            "Let it build a new model with random weights.",
        )
    return fresh_model


def _reset(layer: nn.Module) -> None:
    parameters: dict[str, Any] = {
        k: p for k, p in layer.named_parameters(recurse=False) if p.is_floating_point() or p.is_complex()
    }
    for parameter in parameters.values():
        parameter.fill_(float("nan"))  # marks values that reset_parameters() does not write
    layer.reset_parameters()  # type: ignore[operator]
    unchanged = [name for name, p in parameters.items() if bool(torch.isnan(p).any())]
    if unchanged:
        raise InputError(
            f"A layer of type {type(layer).__name__} cannot be re-initialised.",
            f"Its reset_parameters() leaves '{unchanged[0]}' as it is.",
            FRESH,
        )


@contextmanager
def _original_names(layer: nn.Module) -> Iterator[None]:
    """Give a pruned layer's parameters their original names for the duration of the block."""
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
