# SPDX-License-Identifier: Apache-2.0
"""Per-sample losses by a user's loss function, with checks of its targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.tasks.batches import Batches, describe
from expunge.tasks.faults import raise_as_input_error

Loss = Callable[[Any, Any], torch.Tensor]
CLASS_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss)
NOT_REDUCED = 'Build it with reduction="none".'


@dataclass
class SampleLoss:
    """A user's loss function, checked at every call.

    Attributes:
        function: ``function(outputs, targets) -> (B,)``, or (B, …), which is averaged per sample. Torch's own
            losses receive the class scores if the outputs are not a tensor.
        batches: Finds class scores among the outputs.
        classifies: Whether outputs are class scores and targets class indices; None: not yet known.
        bound: Number of classes that targets must not reach; None: unknown, or targets are not indices.
    """

    function: Loss
    batches: Batches
    classifies: bool | None = None
    bound: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(
                "The loss is no function.",
                f"It is of the type {type(self.function).__name__}.",
                'Give for instance torch.nn.CrossEntropyLoss(reduction="none").',
            )
        if getattr(self.function, "reduction", "none") != "none":
            raise InputError(
                "The loss gives one number for a whole batch.",
                "Unlearning needs the loss of every sample.",
                NOT_REDUCED,
            )

    def __call__(self, outputs: Any, y: Any, count: int) -> torch.Tensor:
        """Return the loss of every sample (B,).

        Args:
            outputs: The model's outputs.
            y: Targets.
            count: B.

        Raises:
            InputError: If the loss fails, or does not return a value for every sample.
        """
        scores = outputs
        if not isinstance(outputs, torch.Tensor) and isinstance(self.function, nn.modules.loss._Loss):
            scores = self.batches.need_logits(outputs)
        with raise_as_input_error(
            "The loss failed on a batch.",
            "It is called as loss(outputs, targets), with what the model returns and the batch of targets.",
        ):
            values = self.function(scores, y)
        if not isinstance(values, torch.Tensor):
            raise InputError(
                "The loss does not give a tensor.",
                f"It gives {type(values).__name__}.",
                "Let it return one number for every sample, as a tensor.",
            )
        if values.shape[:1] != (count,):
            raise InputError(
                "The loss gives one number for a whole batch.",
                f"For {count} samples its shape is {tuple(values.shape)}.",
                NOT_REDUCED,
            )
        sizes = [part.numel() for part in (scores, y) if isinstance(part, torch.Tensor)]
        if len(sizes) == 2 and values.numel() > max(sizes):
            raise InputError(
                "The loss compares every sample's output with every other's target.",
                f"Outputs are {describe(scores)}, targets {describe(y)}: one is broadcast against the other.",
                "Give both the same shape: targets with unsqueeze(1), or outputs with squeeze(1).",
            )
        values = values if values.element_size() >= 4 else values.float()
        return values.flatten(1).mean(1) if values.ndim > 1 else values

    def learn_form(self, outputs: Any, y: Any) -> None:
        """Record the form of outputs and targets from a batch.

        Raises:
            InputError: If a target is not a class of the outputs.
        """
        logits = self.batches.find_logits(outputs)
        has_classes = logits is not None and logits.ndim >= 2 and logits.shape[1] >= 2
        self.classifies = has_classes and (_is_integer(y) or isinstance(self.function, nn.CrossEntropyLoss))
        if isinstance(self.function, CLASS_LOSSES) and logits is not None and has_classes and _is_integer(y):
            self.bound = logits.shape[1]
            self.check(y)

    def check(self, y: Any) -> None:
        """Check that targets are classes of the model, if its classes are known.

        Raises:
            InputError: If a target is out of range; the message names the first one.
        """
        if self.bound is None or not _is_integer(y):
            return
        outside = (y >= self.bound) | ((y < 0) & (y != getattr(self.function, "ignore_index", -100)))
        if bool(outside.any()):
            raise InputError(
                f"The target {int(y[outside][0])} is none of the model's classes.",
                f"It gives scores of {self.bound} classes, with indices from 0 to {self.bound - 1}.",
                "Correct the targets, or take the samples out.",
            )


def class_scores(logits: torch.Tensor | None, y: Any) -> bool:
    """Return whether ``logits`` are class scores (B, C) and ``y`` (B,) contains indices of these classes."""
    fits = logits is not None and logits.ndim == 2 and isinstance(y, torch.Tensor) and y.ndim == 1
    return fits and not y.is_floating_point() and bool((y < logits.shape[1]).all())  # type: ignore[union-attr]


def _is_integer(y: Any) -> bool:
    return isinstance(y, torch.Tensor) and not (
        y.is_floating_point() or y.is_complex() or y.dtype == torch.bool
    )
