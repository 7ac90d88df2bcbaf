# SPDX-License-Identifier: Apache-2.0
"""Copies a user's model for the work: without wrappers, in single precision; and turns results back.

Half-precision weights learn badly: small steps are rounded away, and AdamW divides by numbers that are zero
in fp16. So the work is done in fp32, and what it gives is rounded to the model's own precision before it is
judged.
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
from expunge.tasks.faults import blame

DERIVING = (BasePruningMethod, WeightNorm, SpectralNorm)
"""Hooks that compute a weight of a layer from other parameters before each forward pass."""

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
Wrap = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class WorkingCopy:
    """A copy to work with, and the way back to the form in which the model was given.

    Attributes:
        module: The copy: no ``DataParallel`` or ``torch.compile`` around it, weights in fp32 or fp64.
        dtypes: Of tensors whose precision was raised, by name, as they were.
        wrappers: What was around it, outermost first.
    """

    module: nn.Module
    dtypes: dict[str, torch.dtype]
    wrappers: tuple[Wrap, ...]

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the copy's parameters; None where there are several."""
        found = {p.dtype for p in self.module.parameters() if p.is_floating_point()}
        return next(iter(found)) if len(found) == 1 else None

    @torch.no_grad()
    def round(self, module: nn.Module) -> None:
        """Round a module's weights to the model's own precision, in place; they stay in fp32."""
        for name, tensor in _tensors(module):
            if name in self.dtypes:
                tensor.copy_(tensor.to(self.dtypes[name]))

    def deliver(self, module: nn.Module) -> nn.Module:
        """Return a module in the precision and the wrappers of the model as it was given."""
        convert(module, self.dtypes)
        for parameter in module.parameters():
            parameter.grad = None  # the last step's, which may be the forget set's
        _derive(module)
        for wrap in reversed(self.wrappers):
            module = wrap(module)
        return module


def working_copy(model: Any, name: str = "model") -> WorkingCopy:
    """Return a copy of a model to work with.

    Args:
        model: It is not changed.
        name: As it is called in messages.

    Raises:
        InputError: If it is of a kind that cannot be unlearned; it says what to do.
    """
    inner, wrappers = _unwrapped(model, name)
    refuse_unfit(inner, name)
    module = copy_module(inner)
    raised = {n: t.dtype for n, t in _tensors(module) if t.is_floating_point() and t.element_size() < 4}
    convert(module, dict.fromkeys(raised, torch.float32))
    return WorkingCopy(module, raised, wrappers)


def copy_module(model: nn.Module) -> nn.Module:
    """Return a deep copy. Tensors that were computed (a pruned layer's weight, say) are copied as values.

    Raises:
        InputError: If something in the model cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            for leaf in leaves(value):
                if isinstance(leaf, torch.Tensor) and not leaf.is_leaf:
                    memo[id(leaf)] = leaf.detach().clone()
    with blame(
        "The model cannot be copied.",
        "Take out of it what copy.deepcopy(model) refuses: open files, locks, loggers.",
    ):
        return copy.deepcopy(model, memo)


@torch.no_grad()
def convert(module: nn.Module, dtypes: dict[str, torch.dtype]) -> None:
    """Change the precision of some tensors in place, by name; tied ones stay tied."""
    done: dict[int, torch.Tensor] = {}
    for name, tensor in list(_tensors(module)):
        if name not in dtypes:
            continue
        if isinstance(tensor, nn.Parameter):
            tensor.grad = None
            tensor.data = tensor.data.to(dtypes[name])
        else:
            path, _, key = name.rpartition(".")
            new = done.setdefault(id(tensor), tensor.to(dtypes[name]))
            module.get_submodule(path)._buffers[key] = new


def places(model: nn.Module) -> dict[str, str]:
    """Return for each place of a parameter or buffer the first name of the tensor that is there.

    Tied weights have several places, a module with several names has one. ``functional_call`` puts a tensor
    into such a module once for each name, and cannot restore it; so it must be given places, and
    ``tie_weights=False``.
    """
    found: dict[str, str] = {}
    names: dict[int, str] = {}
    for path, module in model.named_modules():
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                place = f"{path}.{key}" if path else key
                found[place] = names.setdefault(id(tensor), place)
    return found


def holds_tensors(model: nn.Module) -> bool:
    """Whether a module keeps tensors that are no parameters or buffers, such as its last activations.

    ``vmap`` would leave its own kind of tensors there, which nothing else can use.
    """
    for module in model.modules():
        others = [value for key, value in vars(module).items() if key not in ("_parameters", "_buffers")]
        if any(isinstance(leaf, torch.Tensor) for value in others for leaf in leaves(value)):
            return True
    return False


def refuse_unfit(model: nn.Module, name: str) -> None:
    """Refuse a model of a kind that cannot be unlearned.

    Raises:
        InputError: It says why, and what to do.
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
    places = sorted({str(t.device) for _, t in tensors})
    if "meta" in places:
        raise InputError(
            f"The {name} has no weights.",
            "It is on the meta device, which only knows shapes.",
            "Call model.to_empty(device='cpu'), then model.load_state_dict(state).",
        )
    if len(places) > 1:
        raise InputError(
            f"The {name} is on several devices.",
            f"They are {', '.join(places)}.",
            f"Move it to one: model.to('{places[-1]}').",
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


def _unwrapped(model: Any, name: str) -> tuple[nn.Module, tuple[Wrap, ...]]:
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
                "It brings its own data and loss.",
                "Use expunge.YOLO(file).unlearn(...).",
            )
        if isinstance(model, DistributedDataParallel) or "FullyShardedDataParallel" in type(model).__name__:
            raise InputError(
                f"The {name} is distributed over processes.",
                "Unlearning runs in one.",
                "Give the module inside: model.module.",
            )
        if isinstance(model, nn.DataParallel):
            wrappers.append(_parallel(model))
            model = model.module
        elif type(model).__name__ == "OptimizedModule" and "_orig_mod" in model._modules:
            wrappers.append(_compiled(model))
            model = model._modules["_orig_mod"]
        else:
            return model, tuple(wrappers)


def _parallel(model: nn.DataParallel[nn.Module]) -> Wrap:
    # Without GPUs, DataParallel sets neither output_device nor dim.
    output, dim = getattr(model, "output_device", None), getattr(model, "dim", 0)
    return lambda inner: nn.DataParallel(inner, model.device_ids or None, output, dim)


def _compiled(model: nn.Module) -> Wrap:
    # With its own settings; torch.compile has no public way to ask a compiled module for them.
    kind: Any = type(model)
    context = getattr(model, "dynamo_ctx", None)

    def wrap(inner: nn.Module) -> nn.Module:
        found: nn.Module = kind(inner, context) if context is not None else torch.compile(inner)  # type: ignore[assignment]
        return found

    return wrap


def _derive(module: nn.Module) -> None:
    """Compute anew what layers derive from their parameters, so that nothing holds values of earlier ones."""
    with torch.no_grad():
        for layer in module.modules():
            for hook in layer._forward_pre_hooks.values():
                if isinstance(hook, DERIVING):
                    hook(layer, ())


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers by name, tied ones under each of their names; no temporary buffers."""
    kept = module.state_dict(keep_vars=True)
    yield from module.named_parameters(remove_duplicate=False)
    for name, buffer in module.named_buffers(remove_duplicate=False):
        if name in kept or buffer.layout == torch.strided:
            yield name, buffer
