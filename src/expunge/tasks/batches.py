# SPDX-License-Identifier: Apache-2.0
"""Makes batches (inputs, targets) of whatever samples a user has, calls the model, and reads its outputs.

Inputs have one of three forms: a tensor (``model(x)``), a tuple (``model(*x)``), a dict (``model(**x)``).
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
from expunge.tasks.faults import blame

TARGETS = ("labels", "label", "targets", "target", "y")
"""Names under which a dict or a named tuple may hold its target."""

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
    """What a model's ``forward`` takes.

    Attributes:
        names: Of all its parameters.
        required: Names of those without a default.
        any_places: Whether it takes ``*args``.
    """

    names: frozenset[str]
    required: tuple[str, ...]
    any_places: bool = False
    any_names: bool = False


def signature_of(model: nn.Module) -> Signature:
    """Return what a model's ``forward`` takes; one argument where that cannot be found out."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return Signature(frozenset(), ("input",))
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    placed = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return Signature(
        frozenset(p.name for p in named),
        tuple(p.name for p in placed if p.default is p.empty),
        any(p.kind is p.VAR_POSITIONAL for p in parameters),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


@dataclass(frozen=True)
class Batches:
    """How samples become batches.

    Attributes:
        signature: Of the model; None: not known.
        collate: Makes a batch of a list of samples, as ``DataLoader`` does.
        unpack: Returns (inputs, targets) of what ``collate`` made; None: by the rules of
            :meth:`_default_unpack`.
        logits: Returns the class scores among the model's outputs; None: see :func:`find_logits`.
        dtype: Of floating inputs and targets; None: as they are.
    """

    signature: Signature | None = None
    collate: Collate = default_collate
    unpack: Callable[[Any], Any] | None = None
    logits: Callable[[Any], Any] | None = None
    dtype: torch.dtype | None = None

    def make(self, items: Sequence[Any], device: torch.device) -> Batch:
        """Return (inputs, targets) on a device.

        Raises:
            InputError: If the samples do not fit into a batch, or are of a form that is not known.
        """
        with blame(
            "The samples do not fit into a batch.",
            "Give samples whose tensors have the same shapes, or a DataLoader whose collate_fn makes a batch "
            "of yours (it pads them, for instance).",
        ):
            raw = self.collate(list(items))
        if self.unpack is None:
            inputs, targets = self._default_unpack(raw)
        else:
            with blame("The function `unpack` failed.", "It is given a batch as the collate_fn makes it."):
                found = self.unpack(raw)
            if not isinstance(found, (tuple, list)) or len(found) != 2:
                raise InputError(
                    "The function `unpack` does not return a pair.",
                    f"It returns {type(found).__name__}.",
                    "Return (inputs, target).",
                )
            inputs, targets = self._arrange(found[0]), found[1]
        return self._placed(inputs, device), self._target(targets, device)

    def find_logits(self, outputs: Any) -> torch.Tensor | None:
        """Return the class scores (B, C, …) among the outputs; None where it is not clear which they are."""
        if self.logits is None:
            return _logits_by_convention(outputs)
        with blame("The function `logits` failed.", "It is given the model's outputs for a batch."):
            found = self.logits(outputs)
        if not isinstance(found, torch.Tensor):
            raise InputError(
                "The function `logits` does not return a tensor.",
                f"It returns {type(found).__name__}.",
                "Return the class scores, one row for each sample.",
            )
        return found

    def need_logits(self, outputs: Any) -> torch.Tensor:
        """Return the class scores (B, C, …) among the outputs.

        Raises:
            InputError: If it is not clear which they are.
        """
        found = self.find_logits(outputs)
        if found is None:
            raise InputError(
                "The model's class scores cannot be told among its outputs.",
                f"It returns {describe(outputs)}.",
                LOGITS,
            )
        return found

    def _default_unpack(self, raw: Any) -> Batch:
        """Return inputs and targets of a dict, a named tuple, a pair, or a longer tuple of inputs."""
        fields = getattr(raw, "_fields", ())
        if isinstance(raw, Mapping) or any(name in fields for name in TARGETS):
            return self._by_name(raw if isinstance(raw, Mapping) else raw._asdict())
        if isinstance(raw, (tuple, list)):
            if len(raw) == 2:
                return self._arrange(raw[0]), raw[1]
            if self.signature and 2 < len(raw) == len(self.signature.required) + 1:
                return tuple(raw[:-1]), raw[-1]
            takes = len(self.signature.required) if self.signature else 1
            raise InputError(
                f"It is not clear what the {len(raw)} parts of a sample are.",
                f"A sample is a pair (input, target), and the model takes {takes} input(s).",
                BY_PLACE,
            )
        raise InputError(
            "A sample has no target.",
            f"A batch of samples is {describe(raw)}; a pair (input, target) or a dict is taken.",
            UNPACK.format("unpack=lambda batch: (batch.x, batch.y)"),
        )

    def _by_name(self, raw: Mapping[Any, Any]) -> Batch:
        found = [name for name in TARGETS if name in raw]
        if len(found) != 1:
            raise InputError(
                "It is not clear which part of a sample is its target.",
                f"It has {', '.join(map(repr, raw))}; one of {', '.join(TARGETS)} is looked for.",
                BY_NAME,
            )
        rest = {name: value for name, value in raw.items() if name != found[0]}
        targets, signature = raw[found[0]], self.signature
        taken = {k: v for k, v in rest.items() if signature and k in signature.names}
        if not rest:
            raise InputError("A sample has no input.", f"It has only {found[0]!r}.", BY_NAME)
        if signature and signature.any_names and len(rest) > 1:
            return rest, targets
        if signature and taken:
            missing = [name for name in signature.required if name not in taken]
            if missing:
                raise InputError(
                    f"The model needs '{missing[0]}', which the samples do not have.",
                    f"They have {', '.join(map(repr, rest))}.",
                    BY_NAME,
                )
            return taken, targets
        return self._arrange(next(iter(rest.values())) if len(rest) == 1 else rest), targets

    def _arrange(self, given: Any) -> Any:
        """Return inputs in one of the three forms."""
        signature = self.signature
        if isinstance(given, torch.Tensor):
            return given
        if isinstance(given, Mapping):
            names = set(given)
            fits = signature is None or signature.any_names or names <= signature.names
            return dict(given) if fits and all(isinstance(n, str) for n in names) else (given,)
        if isinstance(given, (tuple, list)) and not all(isinstance(part, str) for part in given):
            several = len(given) > 1 and (
                signature is None or signature.any_places or len(signature.required) == len(given)
            )
            return tuple(given) if several else (given,)
        return (given,)

    def _placed(self, value: Any, device: torch.device) -> Any:
        def move(leaf: Any) -> Any:
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
                leaf = torch.as_tensor(leaf)
            if isinstance(leaf, torch.Tensor):
                floats = self.dtype is not None and leaf.is_floating_point()
                return leaf.to(device, self.dtype if floats else None)
            return leaf.to(device) if hasattr(leaf, "to") else leaf

        return map_leaves(move, value)

    def _target(self, targets: Any, device: torch.device) -> Any:
        if isinstance(targets, (tuple, list)) and targets:
            if all(isinstance(part, (str, bytes)) for part in targets):
                raise InputError(
                    "The targets are text.",
                    "A loss needs numbers: for a classifier the index of the class.",
                    "Give indices, for instance {name: i for i, name in enumerate(names)}[target].",
                )
            if all(isinstance(part, (int, float)) for part in targets):
                targets = torch.tensor(targets)
        placed = self._placed(targets, device)
        integers = isinstance(placed, torch.Tensor) and not (
            placed.is_floating_point() or placed.is_complex() or placed.dtype == torch.bool
        )
        return placed.long() if integers else placed


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """Return the model's outputs for inputs in one of the three forms.

    Raises:
        InputError: If the model raises anything; that is the cause.
    """
    with blame(
        "The model failed on a batch.",
        "Check that it takes such samples: a tuple of inputs goes to as many arguments, a dict to the "
        "arguments of these names. `unpack` chooses what the model gets.",
    ):
        if isinstance(inputs, dict):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def size_of(batch: Batch) -> int:
    """Return the number of samples in a batch: the length of its first tensor."""
    for leaf in leaves(batch):
        if isinstance(leaf, torch.Tensor) and leaf.ndim:
            return len(leaf)
    raise InputError(
        "A batch has no tensor.",
        "Neither its inputs nor its targets are numbers.",
        "Give tensors, or a DataLoader whose collate_fn makes them.",
    )


def float_inputs(inputs: Any) -> torch.Tensor:
    """Return what of the inputs can be perturbed: the floating tensor, several in one row each (B, …).

    Raises:
        InputError: If there is none.
    """
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        return inputs
    found = [leaf for leaf in leaves(inputs) if _floating(leaf)]
    if not found:
        raise InputError(
            "This method changes the inputs, and these cannot be changed a little.",
            "They are no floating point numbers.",
            "Choose another method, for instance finetune, neggrad_plus or ssd; or give floating inputs.",
        )
    return found[0] if len(found) == 1 else torch.cat([leaf.flatten(1) for leaf in found], 1)


def replace_float_inputs(inputs: Any, values: torch.Tensor) -> Any:
    """Return the inputs with other values for what :func:`float_inputs` gives."""
    if isinstance(inputs, torch.Tensor):
        return values
    found = [leaf for leaf in leaves(inputs) if _floating(leaf)]
    parts = [values]
    if len(found) > 1:
        rows = torch.split(values, [leaf[0].numel() for leaf in found], 1)
        parts = [row.reshape(leaf.shape) for row, leaf in zip(rows, found, strict=True)]
    new = iter(parts)
    return map_leaves(lambda leaf: next(new) if _floating(leaf) else leaf, inputs)


def describe(value: Any) -> str:
    """Return the kind of a value in words, without its content."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(repr, value)) or 'nothing'}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of the type {type(value).__name__}"


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """Return dicts, tuples, named tuples and lists with every other value changed; any mapping as a dict."""
    if isinstance(value, Mapping):
        return {key: map_leaves(change, part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(change, part) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_leaves(change, part) for part in value)
    return change(value)


def leaves(value: Any) -> Iterator[Any]:
    """Yield what :func:`map_leaves` would change, in the same order."""
    if isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(part)
    else:
        yield value


def _floating(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and leaf.is_floating_point()


def _logits_by_convention(outputs: Any) -> torch.Tensor | None:
    if isinstance(outputs, torch.Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(named, torch.Tensor):
        return named
    parts = list(outputs.values() if isinstance(outputs, Mapping) else outputs) if _holds(outputs) else []
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    return tensors[0] if len(tensors) == len(parts) == 1 else None


def _holds(value: Any) -> bool:
    return isinstance(value, (Mapping, tuple, list))
