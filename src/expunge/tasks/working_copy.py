# SPDX-License-Identifier: Apache-2.0
"""Working copies of users' models: unwrapped and in single precision, and their conversion back.

Half-precision weights train badly: small steps are rounded away, and AdamW divides by values that underflow
to zero in fp16. Methods therefore work in fp32, and results are rounded to the model's own precision before
they are evaluated.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from expunge.errors import InputError
from expunge.tasks.batches import leaves
from expunge.tasks.faults import raise_as_input_error

DERIVING = (BasePruningMethod, WeightNorm, SpectralNorm)
"""Hooks that compute a layer's weight from other parameters before each forward pass."""

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
Wrap = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class WorkingCopy:
    """A working copy of a model, and the information to convert results to the model's original form.

    Attributes:
        module: The copy, without ``DataParallel`` or ``torch.compile``, with weights in fp32 or fp64.
        dtypes: Original precision of the tensors whose precision was raised, by name.
        wrappers: Functions that restore the wrappers, outermost first.
    """

    module: nn.Module
    dtypes: dict[str, torch.dtype]
    wrappers: tuple[Wrap, ...]

    @property
    def dtype(self) -> torch.dtype | None:
        """Precision of the copy's parameters; None if they have different ones."""
        dtypes = {p.dtype for p in self.module.parameters() if p.is_floating_point()}
        return next(iter(dtypes)) if len(dtypes) == 1 else None

    @torch.no_grad()
    def round(self, module: nn.Module) -> None:
        """Round a module's weights in place to the model's original precision; they stay in fp32."""
        for name, tensor in _tensors(module):
            if name in self.dtypes:
                tensor.copy_(tensor.to(self.dtypes[name]))

    def deliver(self, module: nn.Module) -> nn.Module:
        """Return a module in the precision and wrappers of the original model."""
        convert(module, self.dtypes)
        for parameter in module.parameters():
            parameter.grad = None  # may be a gradient of the forget set
        _recompute_derived(module)
        for wrap in reversed(self.wrappers):
            module = wrap(module)
        return module


def working_copy(model: Any, name: str = "model") -> WorkingCopy:
    """Return a working copy of a model.

    Args:
        model: The model; it is not changed.
        name: Name of the model in messages.

    Raises:
        InputError: If the model is of a kind that cannot be unlearned; the message says what to do.
    """
    unwrapped, wrappers = _unwrap(model, name)
    check_supported(unwrapped, name)
    module = copy_module(unwrapped)
    dtypes = {n: t.dtype for n, t in _tensors(module) if t.is_floating_point() and t.element_size() < 4}
    convert(module, dict.fromkeys(dtypes, torch.float32))
    return WorkingCopy(module, dtypes, wrappers)


def copy_module(model: nn.Module) -> nn.Module:
    """Return a deep copy; computed tensors (such as the weight of a pruned layer) are copied by value.

    Raises:
        InputError: If a part of the model cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            for leaf in leaves(value):
                if isinstance(leaf, torch.Tensor) and not leaf.is_leaf:
                    memo[id(leaf)] = leaf.detach().clone()
    with raise_as_input_error(
        "The model cannot be copied.",
        "Take out of it what copy.deepcopy(model) refuses: open files, locks, loggers.",
    ):
        return copy.deepcopy(model, memo)


@torch.no_grad()
def convert(module: nn.Module, dtypes: dict[str, torch.dtype]) -> None:
    """Change the precision of the named tensors in place; tied tensors stay tied."""
    converted: dict[int, torch.Tensor] = {}
    for name, tensor in list(_tensors(module)):
        if name not in dtypes:
            continue
        if isinstance(tensor, nn.Parameter):
            tensor.grad = None
            tensor.data = tensor.data.to(dtypes[name])
        else:
            path, _, key = name.rpartition(".")
            new = converted.setdefault(id(tensor), tensor.to(dtypes[name]))
            module.get_submodule(path)._buffers[key] = new


def places(model: nn.Module) -> dict[str, str]:
    """Return for each place of a parameter or buffer the first place of the same tensor.

    A place is a tensor's name under the first name of its module, so tied weights have several places and a
    module with several names has one set. ``functional_call`` would set the tensors of such a module once per
    name and cannot restore them; pass it places and ``tie_weights=False``.
    """
    first_names: dict[str, str] = {}
    by_id: dict[int, str] = {}
    for path, module in model.named_modules():
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                place = f"{path}.{key}" if path else key
                first_names[place] = by_id.setdefault(id(tensor), place)
    return first_names


def holds_tensors(model: nn.Module) -> bool:
    """Return whether a module stores tensors other than parameters and buffers, such as its last activations.

    ``vmap`` would leave its internal tensors there, which no other code can use.
    """
    for module in model.modules():
        attributes = [value for key, value in vars(module).items() if key not in ("_parameters", "_buffers")]
        if any(isinstance(leaf, torch.Tensor) for value in attributes for leaf in leaves(value)):
            return True
    return False


def check_supported(model: nn.Module, name: str) -> None:
    """Check that a model is of a kind that can be unlearned.

    Raises:
        InputError: If it is not; the message gives the reason and what to do.
    """
    modules, tensors = list(model.modules()), list(_tensors(model))
    if any(isinstance(m, torch.jit.ScriptModule) for m in modules):
        raise InputError(
            f"The {name} is a scripted or traced module.",
            "It cannot be copied and trained as Python modules are.",
            "Give the module that it was made of, and script the result again.",
        )
    if any(type(m).__module__.startswith(_QUANTISED) for m in modules) or any(
        t.is_quantized for _, t in tensors
    ):
        raise InputError(
            f"The {name} is quantised.",
            "Quantised weights cannot learn.",
            "Give the model as it was before, and quantise the result again.",
        )
    if any(is_lazy(t) for _, t in tensors):
        raise InputError(
            f"The {name} is not initialised.",
            "It has lazy layers, whose shapes are only known after a first batch.",
            "Run a batch through it once, load the trained weights, then give it again.",
        )
    devices = sorted({str(t.device) for _, t in tensors})
    if "meta" in devices:
        raise InputError(
            f"The {name} has no weights.",
            "It is on the meta device, which only knows shapes.",
            "Call model.to_empty(device='cpu'), then model.load_state_dict(state).",
        )
    if len(devices) > 1:
        raise InputError(
            f"The {name} is on several devices.",
            f"They are {', '.join(devices)}.",
            f"Move it to one: model.to('{devices[-1]}').",
        )
    for key, tensor in tensors:
        if tensor.layout != torch.strided:
            raise InputError(
                f"The tensor '{key}' of the {name} is sparse.",
                "Weights and statistics must be dense to be compared and changed.",
                "Make it dense (to_dense()), or keep it out of the state: "
                "register_buffer(..., persistent=False).",
            )
        if tensor.is_complex() and tensor.requires_grad:
            raise InputError(
                f"The parameter '{key}' of the {name} is complex.",
                "Methods change real weights only.",
                "Keep its real and imaginary part as real parameters (torch.view_as_real), or freeze it with "
                "requires_grad_(False).",
            )


def _unwrap(model: Any, name: str) -> tuple[nn.Module, tuple[Wrap, ...]]:
    wrappers: list[Wrap] = []
    while True:
        if not isinstance(model, nn.Module):
            raise InputError(
                f"The {name} is no torch.nn.Module.",
                f"It is of the type {type(model).__name__}.",
                "Give a module. A .pt file of Ultralytics is opened by expunge.YOLO(file).unlearn(...).",
            )
        if any(kind.__module__.startswith("ultralytics.engine.") for kind in type(model).__mro__):
            raise InputError(
                f"The {name} is a YOLO, which is no plain module.",
                "It has its own data and loss.",
                "Use expunge.YOLO(file).unlearn(...).",
            )
        if isinstance(model, DistributedDataParallel) or "FullyShardedDataParallel" in type(model).__name__:
            raise InputError(
                f"The {name} is distributed over processes.",
                "Unlearning runs in a single process.",
                "Give the module inside: model.module.",
            )
        if isinstance(model, nn.DataParallel):
            wrappers.append(_rewrap_parallel(model))
            model = model.module
        elif type(model).__name__ == "OptimizedModule" and "_orig_mod" in model._modules:
            wrappers.append(_rewrap_compiled(model))
            model = model._modules["_orig_mod"]
        else:
            return model, tuple(wrappers)


def _rewrap_parallel(model: nn.DataParallel[nn.Module]) -> Wrap:
    # Without GPUs, DataParallel sets neither output_device nor dim.
    output, dim = getattr(model, "output_device", None), getattr(model, "dim", 0)
    return lambda inner: nn.DataParallel(inner, model.device_ids or None, output, dim)


def _rewrap_compiled(model: nn.Module) -> Wrap:
    # torch.compile has no public way to read the settings of a compiled module.
    kind: Any = type(model)
    context = getattr(model, "dynamo_ctx", None)

    def wrap(inner: nn.Module) -> nn.Module:
        compiled: nn.Module = kind(inner, context) if context is not None else torch.compile(inner)  # type: ignore[assignment]
        return compiled

    return wrap


def _recompute_derived(module: nn.Module) -> None:
    """Recompute the weights that layers derive from their parameters, so that none keeps an earlier value."""
    with torch.no_grad():
        for layer in module.modules():
            for hook in layer._forward_pre_hooks.values():
                if isinstance(hook, DERIVING):
                    hook(layer, ())


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers by name; tied ones under each name; temporary buffers only if dense."""
    persistent = module.state_dict(keep_vars=True)
    yield from module.named_parameters(remove_duplicate=False)
    for name, buffer in module.named_buffers(remove_duplicate=False):
        if name in persistent or buffer.layout == torch.strided:
            yield name, buffer
