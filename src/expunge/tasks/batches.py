# SPDX-License-Identifier: Apache-2.0
"""Batching of users' samples, and calls of their models.

Inputs have one of three forms: a tensor (``model(x)``), a tuple (``model(*x)``) or a dict (``model(**x)``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import default_collate

from expunge.errors import InputError
from expunge.tasks.faults import raise_as_input_error

TARGETS = ("labels", "label", "targets", "target", "y")
"""Keys or field names of the target in a dict or a named tuple."""

UNPACK = "Give `unpack`, a function that returns (inputs, target) of a sample, for instance {}."
BY_PLACE = UNPACK.format("unpack=lambda sample: (sample[0], sample[1])")
BY_NAME = UNPACK.format('unpack=lambda sample: (sample["image"], sample["class"])')
LOGITS = (
    "Give `logits`, a function that returns them, for instance logits=lambda outputs: outputs[0]; "
    "or choose a method that only needs the loss (finetune, neggrad_plus or ssd)."
)

Batch = tuple[Any, Any]
Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Signature:
    """The parameters of a model's ``forward``.

    Attributes:
        names: Names of all parameters.
        required: Names of the parameters without a default.
        any_places: Whether ``forward`` takes ``*args``.
        any_names: Whether ``forward`` takes ``**kwargs``.
    """

    names: frozenset[str]
    required: tuple[str, ...]
    any_places: bool = False
    any_names: bool = False


def signature_of(model: nn.Module) -> Signature:
    """Return the parameters of a model's ``forward``; one parameter ``input`` where they are unknown."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return Signature(frozenset(), ("input",))
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    fixed = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return Signature(
        frozenset(p.name for p in named),
        tuple(p.name for p in fixed if p.default is p.empty),
        any(p.kind is p.VAR_POSITIONAL for p in parameters),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


@dataclass(frozen=True)
class Batches:
    """The conversion of samples to batches.

    Attributes:
        signature: The signature of the model; None: unknown.
        collate: Makes a batch of a list of samples, as in ``DataLoader``.
        unpack: Returns (inputs, targets) of the result of ``collate``; None: see :meth:`_default_unpack`.
        logits: Returns the class scores among the model's outputs; None: see :meth:`find_logits`.
        dtype: Precision of floating-point inputs and targets; None: unchanged.
    """

    signature: Signature | None = None
    collate: Collate = default_collate
    unpack: Callable[[Any], Any] | None = None
    logits: Callable[[Any], Any] | None = None
    dtype: torch.dtype | None = None

    def make(self, items: Sequence[Any], device: torch.device) -> Batch:
        """Return (inputs, targets) of some samples, on a device.

        Raises:
            InputError: If the samples cannot be collated, or their structure is not recognised.
        """
        with raise_as_input_error(
            "The samples do not fit into a batch.",
            "Give samples whose tensors have the same shapes, or a DataLoader whose collate_fn makes a batch "
            "of yours (it pads them, for instance).",
        ):
            raw = self.collate(list(items))
        if self.unpack is None:
            inputs, targets = self._default_unpack(raw)
        else:
            with raise_as_input_error(
                "The function `unpack` failed.", "It is given a batch as the collate_fn makes it."
            ):
                unpacked = self.unpack(raw)
            if not isinstance(unpacked, (tuple, list)) or len(unpacked) != 2:
                raise InputError(
                    "The function `unpack` does not return a pair.",
                    f"It returns {type(unpacked).__name__}.",
                    "Return (inputs, target).",
                )
            inputs, targets = self._arrange_inputs(unpacked[0]), unpacked[1]
        return self._to_device(inputs, device), self._convert_targets(targets, device)

    def find_logits(self, outputs: Any) -> torch.Tensor | None:
        """Return the class scores (B, C, …) among the outputs; None where they cannot be identified."""
        if self.logits is None:
            return _logits_by_convention(outputs)
        with raise_as_input_error(
            "The function `logits` failed.", "It is given the model's outputs for a batch."
        ):
            scores = self.logits(outputs)
        if not isinstance(scores, torch.Tensor):
            raise InputError(
                "The function `logits` does not return a tensor.",
                f"It returns {type(scores).__name__}.",
                "Return the class scores, one row for each sample.",
            )
        return scores

    def need_logits(self, outputs: Any) -> torch.Tensor:
        """Return the class scores (B, C, …) among the outputs.

        Raises:
            InputError: If they cannot be identified.
        """
        scores = self.find_logits(outputs)
        if scores is None:
            raise InputError(
                "The class scores cannot be identified among the model's outputs.",
                f"It returns {describe(outputs)}.",
                LOGITS,
            )
        return scores

    def _default_unpack(self, raw: Any) -> Batch:
        """Return (inputs, targets) of a dict, a named tuple, a pair, or a longer tuple (target last)."""
        fields = getattr(raw, "_fields", ())
        if isinstance(raw, Mapping) or any(name in fields for name in TARGETS):
            return self._by_name(raw if isinstance(raw, Mapping) else raw._asdict())
        if isinstance(raw, (tuple, list)):
            if len(raw) == 2:
                return self._arrange_inputs(raw[0]), raw[1]
            if self.signature and 2 < len(raw) == len(self.signature.required) + 1:
                return tuple(raw[:-1]), raw[-1]
            count = len(self.signature.required) if self.signature else 1
            raise InputError(
                f"It is not clear what the {len(raw)} parts of a sample are.",
                f"A sample is a pair (input, target), and the model takes {count} input(s).",
                BY_PLACE,
            )
        raise InputError(
            "A sample has no target.",
            f"A batch of samples is {describe(raw)}; a pair (input, target) or a dict is taken.",
            UNPACK.format("unpack=lambda batch: (batch.x, batch.y)"),
        )

    def _by_name(self, raw: Mapping[Any, Any]) -> Batch:
        target_names = [name for name in TARGETS if name in raw]
        if len(target_names) != 1:
            raise InputError(
                "It is not clear which part of a sample is its target.",
                f"It has {', '.join(map(repr, raw))}; one of {', '.join(TARGETS)} is looked for.",
                BY_NAME,
            )
        rest = {name: value for name, value in raw.items() if name != target_names[0]}
        targets, signature = raw[target_names[0]], self.signature
        arguments = {k: v for k, v in rest.items() if signature and k in signature.names}
        if not rest:
            raise InputError("A sample has no input.", f"It has only {target_names[0]!r}.", BY_NAME)
        if signature and signature.any_names and len(rest) > 1:
            return rest, targets
        if signature and arguments:
            missing = [name for name in signature.required if name not in arguments]
            if missing:
                raise InputError(
                    f"The model needs '{missing[0]}', which the samples do not have.",
                    f"They have {', '.join(map(repr, rest))}.",
                    BY_NAME,
                )
            return arguments, targets
        return self._arrange_inputs(next(iter(rest.values())) if len(rest) == 1 else rest), targets

    def _arrange_inputs(self, inputs: Any) -> Any:
        """Return inputs in one of the three forms (see the module)."""
        signature = self.signature
        if isinstance(inputs, torch.Tensor):
            return inputs
        if isinstance(inputs, Mapping):
            names = set(inputs)
            fits = signature is None or signature.any_names or names <= signature.names
            return dict(inputs) if fits and all(isinstance(n, str) for n in names) else (inputs,)
        if isinstance(inputs, (tuple, list)) and not all(isinstance(part, str) for part in inputs):
            several = len(inputs) > 1 and (
                signature is None or signature.any_places or len(signature.required) == len(inputs)
            )
            return tuple(inputs) if several else (inputs,)
        return (inputs,)

    def _to_device(self, value: Any, device: torch.device) -> Any:
        def move(leaf: Any) -> Any:
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
                leaf = torch.as_tensor(leaf)
            if isinstance(leaf, torch.Tensor):
                floats = self.dtype is not None and leaf.is_floating_point()
                return leaf.to(device, self.dtype if floats else None)
            return leaf.to(device) if hasattr(leaf, "to") else leaf

        return map_leaves(move, value)

    def _convert_targets(self, targets: Any, device: torch.device) -> Any:
        if isinstance(targets, (tuple, list)) and targets:
            if all(isinstance(part, (str, bytes)) for part in targets):
                raise InputError(
                    "The targets are text.",
                    "A loss needs numbers: for a classifier the index of the class.",
                    "Give indices, for instance {name: i for i, name in enumerate(names)}[target].",
                )
            if all(isinstance(part, (int, float)) for part in targets):
                targets = torch.tensor(targets)
        moved = self._to_device(targets, device)
        integers = isinstance(moved, torch.Tensor) and not (
            moved.is_floating_point() or moved.is_complex() or moved.dtype == torch.bool
        )
        return moved.long() if integers else moved


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """Return the model's outputs for inputs in one of the three forms.

    Raises:
        InputError: If the model raises an exception, which becomes its ``__cause__``.
    """
    with raise_as_input_error(
        "The model failed on a batch.",
        "Check that it takes such samples: a tuple of inputs goes to as many arguments, a dict to the "
        "arguments of these names. `unpack` chooses what the model gets.",
    ):
        if isinstance(inputs, dict):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def size_of(batch: Batch) -> int:
    """Return the number of samples in a batch: the length of its first tensor.

    Raises:
        InputError: If the batch has no tensor.
    """
    for leaf in leaves(batch):
        if isinstance(leaf, torch.Tensor) and leaf.ndim:
            return len(leaf)
    raise InputError(
        "A batch has no tensor.",
        "Neither its inputs nor its targets are numbers.",
        "Give tensors, or a DataLoader whose collate_fn makes them.",
    )


def float_inputs(inputs: Any) -> torch.Tensor:
    """Return the floating-point inputs (B, …), which can be perturbed.

    Several tensors are flattened and joined to one row per sample.

    Raises:
        InputError: If there are none.
    """
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        return inputs
    tensors = [leaf for leaf in leaves(inputs) if _is_floating(leaf)]
    if not tensors:
        raise InputError(
            "This method changes the inputs, and these cannot be changed a little.",
            "They are no floating point numbers.",
            "Choose another method, for instance finetune, neggrad_plus or ssd; or give floating inputs.",
        )
    return tensors[0] if len(tensors) == 1 else torch.cat([leaf.flatten(1) for leaf in tensors], 1)


def replace_float_inputs(inputs: Any, values: torch.Tensor) -> Any:
    """Return the inputs with new values for the tensors that :func:`float_inputs` returns."""
    if isinstance(inputs, torch.Tensor):
        return values
    tensors = [leaf for leaf in leaves(inputs) if _is_floating(leaf)]
    parts = [values]
    if len(tensors) > 1:
        rows = torch.split(values, [leaf[0].numel() for leaf in tensors], 1)
        parts = [row.reshape(leaf.shape) for row, leaf in zip(rows, tensors, strict=True)]
    new = iter(parts)
    return map_leaves(lambda leaf: next(new) if _is_floating(leaf) else leaf, inputs)


def describe(value: Any) -> str:
    """Return a description of a value's type and shape, without its content."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(repr, value)) or 'nothing'}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of the type {type(value).__name__}"


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """Return a structure of mappings, tuples and lists with ``change`` applied to every other value.

    Mappings become dicts; tuples, named tuples and lists keep their types.
    """
    if isinstance(value, Mapping):
        return {key: map_leaves(change, part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(change, part) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_leaves(change, part) for part in value)
    return change(value)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the values to which :func:`map_leaves` applies ``change``, in the same order."""
    if isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(part)
    else:
        yield value


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and leaf.is_floating_point()


def _logits_by_convention(outputs: Any) -> torch.Tensor | None:
    if isinstance(outputs, torch.Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(named, torch.Tensor):
        return named
    parts = (
        list(outputs.values() if isinstance(outputs, Mapping) else outputs) if _is_container(outputs) else []
    )
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    return tensors[0] if len(tensors) == len(parts) == 1 else None


def _is_container(value: Any) -> bool:
    return isinstance(value, (Mapping, tuple, list))
