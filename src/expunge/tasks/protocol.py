# SPDX-License-Identifier: Apache-2.0
"""What approximate methods and audits ask of a model family: the Task protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

Batch = Any
"""What ``Task.collate`` makes; only the task looks inside."""

Outputs = Mapping[str, torch.Tensor]
"""What a model says of a batch, by name; the batch is the first dimension of every tensor."""


class Samples(Protocol):
    """A map-style data set, as torch has them; ``torch.utils.data.Subset`` and ``ConcatDataset`` fit."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Return a sample, in the form that ``Task.collate`` takes."""
        ...


class Task(Protocol):
    """A model family, as methods and audits see it. B is the number of samples in a batch.

    Nothing here changes running statistics (batch norm) unless it says so: a model that was made ready by
    ``clone`` or ``ready`` uses the running ones, so that samples do not influence each other and the data
    to be forgotten never enters them.

    Attributes:
        name: ``detect``, ``classify``, ``module``, …
        metric: Name of the main figure of ``evaluate``; higher is better.
        device: Where batches and models are.
        vectorised: Whether ``loss`` works under ``torch.func.vmap`` with ``torch.func.functional_call``.
    """

    name: str
    metric: str
    device: torch.device
    vectorised: bool

    def clone(self, model: nn.Module) -> nn.Module:
        """Return an independent copy, ready to learn (see ``ready``)."""
        ...

    def ready(self, model: nn.Module) -> None:
        """Attach the loss, let what is not frozen learn, and use running statistics; no dropout."""
        ...

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return by name the parameters that may be changed."""
        ...

    def collate(self, items: Sequence[Any]) -> Batch:
        """Return the batch of some samples, on the task's device."""
        ...

    def size(self, batch: Batch) -> int:
        """Return the number of samples in a batch."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss of every sample (B,), differentiable, from one forward pass of the batch."""
        ...

    def signals(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return scores by which members of the training set may be told, by name (B,); higher: a member.

        ``negative_loss`` is always among them. No gradient is kept.
        """
        ...

    def doubts(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return by kind how much the model contradicts the label of every sample (B,), in 0–1.

        ``label``: of a class. Of boxes the kinds of :mod:`expunge.bias.box_labels`. No gradient is kept.
        """
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> Outputs:
        """Return what the model says, before any threshold or suppression; differentiable."""
        ...

    def divergence(self, student: Outputs, teacher: Outputs) -> torch.Tensor:
        """Return for every sample (B,) how far the student is from the teacher: KL(teacher ‖ student)."""
        ...

    def square_norm(self, outputs: Outputs) -> torch.Tensor:
        """Return ‖f(x)‖² of every sample (B,)."""
        ...

    def suppress(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Return the outputs with the logits of the batch's own (true) classes at −∞ (a large number)."""
        ...

    def wrong_targets(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with targets drawn at random among those that are wrong.

        Args:
            model: Says which targets there are (how many classes); what it predicts does not matter.
        """
        ...

    def own_targets(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with the model's own predictions as targets."""
        ...

    def mistaken(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return for every sample (B,) whether the model's prediction is wrong (bool)."""
        ...

    def predicts(self, model: nn.Module, batch: Batch, classes: Sequence[int]) -> torch.Tensor:
        """Return for every sample (B,) whether any of these classes is in the prediction (bool)."""
        ...

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Return the pictures (B, C, H, W) or whatever the model takes, first dimension B, as floats.

        Raises:
            InputError: If the model takes nothing that can be changed a little.
        """
        ...

    def with_inputs(self, batch: Batch, inputs: torch.Tensor) -> Batch:
        """Return the batch with other inputs."""
        ...

    def input_digest(self, batch: Batch) -> bytes:
        """Return a digest of all that the model sees of a batch."""
        ...

    def input_range(self, batch: Batch) -> tuple[float, float] | None:
        """Return the least and greatest value that an input may have; None: unbounded."""
        ...

    def features(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return what the last layer sees, one vector for each sample (B, D)."""
        ...

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the model's blocks from input to output; the last is the head."""
        ...

    def reset(self, module: nn.Module, generator: torch.Generator) -> None:
        """Initialise the parameters and statistics below a module anew, as before training."""
        ...

    def evaluate(self, model: nn.Module, data: Samples) -> dict[str, float]:
        """Return the metrics of a model on samples; ``metric`` is among them."""
        ...

    def fresh(self, model: nn.Module, generator: torch.Generator) -> nn.Module:
        """Return an untrained model of the same architecture, ready to learn."""
        ...

    def retrain(
        self,
        model: nn.Module,
        retain: Samples,
        *,
        epochs: int,
        generator: torch.Generator,
        images: Callable[[int], None],
        **settings: Any,
    ) -> nn.Module:
        """Return a model of the same architecture, trained from its own start on other data.

        Args:
            model: Says the architecture, and how it was trained where that is on record.
            retain: What to train on.
            epochs: Passes over ``retain``.
            generator: All randomness.
            images: Is told of the images done.
            settings: What the task knows beyond that.
        """
        ...
