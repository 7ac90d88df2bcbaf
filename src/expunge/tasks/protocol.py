# SPDX-License-Identifier: Apache-2.0
"""The Task protocol: the operations on a model family that unlearning methods and audits use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

Batch = Any
"""The result of ``Task.collate``; its structure is private to the task."""

Outputs = Mapping[str, torch.Tensor]
"""A model's outputs for a batch, by name; the first dimension of every tensor is the batch."""


class Samples(Protocol):
    """A map-style data set, such as ``torch.utils.data.Subset`` and ``ConcatDataset``."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Return a sample, in a form that ``Task.collate`` accepts."""
        ...


class Task(Protocol):
    """A model family. B is the number of samples in a batch.

    No method changes running statistics (batch norm) unless its description says so. After ``clone`` or
    ``ready`` a model uses its running statistics, so that samples do not influence each other and forgotten
    data never enters the statistics.

    Attributes:
        name: ``detect``, ``classify``, ``module``, …
        metric: Name of the main metric of ``evaluate``; higher is better.
        device: Device of batches and models.
        vectorised: Whether ``loss`` works under ``torch.func.vmap`` with ``torch.func.functional_call``.
    """

    name: str
    metric: str
    device: torch.device
    vectorised: bool

    def clone(self, model: nn.Module) -> nn.Module:
        """Return an independent copy, ready for training (see ``ready``)."""
        ...

    def ready(self, model: nn.Module) -> None:
        """Attach the loss, make all but the frozen parameters trainable, and set evaluation mode."""
        ...

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name."""
        ...

    def collate(self, items: Sequence[Any]) -> Batch:
        """Return the batch of some samples, on the task's device."""
        ...

    def size(self, batch: Batch) -> int:
        """Return the number of samples in a batch."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the differentiable loss of every sample (B,), from one forward pass of the batch."""
        ...

    def signals(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return membership signals by name (B,); higher values indicate a member of the training set.

        ``negative_loss`` is always included. No gradient is kept.
        """
        ...

    def label_quality(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the doubt about the label of every sample by kind (B,), in 0–1; higher is more doubtful.

        Classifiers have the kind ``label``; detectors have the kinds of :mod:`expunge.tasks.box_labels`. No
        gradient is kept.
        """
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> Outputs:
        """Return the differentiable outputs of the model, before any threshold or suppression."""
        ...

    def divergence(self, student: Outputs, teacher: Outputs) -> torch.Tensor:
        """Return the divergence of the student from the teacher, KL(teacher ‖ student), per sample (B,)."""
        ...

    def square_norm(self, outputs: Outputs) -> torch.Tensor:
        """Return ‖f(x)‖² of every sample (B,)."""
        ...

    def suppress(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Return the outputs with the logits of each sample's true classes set to a large negative number."""
        ...

    def wrong_targets(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with targets drawn at random from the wrong ones.

        Args:
            model: Determines the possible targets (number of classes); its predictions do not matter.
            batch: The batch with its true targets.
            generator: Draws the targets.
        """
        ...

    def own_targets(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with the model's predictions as targets."""
        ...

    def misclassified(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return whether the model's prediction is wrong for every sample (B,), bool."""
        ...

    def predicts(self, model: nn.Module, batch: Batch, classes: Sequence[int]) -> torch.Tensor:
        """Return whether the prediction contains any of ``classes`` for every sample (B,), bool."""
        ...

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Return the model's inputs as floats: pictures (B, C, H, W), or any tensor with first dimension B.

        Raises:
            InputError: If the model has no floating-point inputs.
        """
        ...

    def with_inputs(self, batch: Batch, inputs: torch.Tensor) -> Batch:
        """Return the batch with new inputs."""
        ...

    def input_digest(self, batch: Batch) -> bytes:
        """Return a digest of the model's inputs in a batch."""
        ...

    def input_range(self, batch: Batch) -> tuple[float, float] | None:
        """Return the lowest and highest valid input value; None: unbounded."""
        ...

    def features(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the inputs of the last layer, one vector per sample (B, D)."""
        ...

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the model's blocks from input to output; the last one is the head."""
        ...

    def reset(self, module: nn.Module, generator: torch.Generator) -> None:
        """Initialise the parameters and statistics of a module, as before training."""
        ...

    def evaluate(self, model: nn.Module, data: Samples) -> dict[str, float]:
        """Return the metrics of a model on samples, including ``metric``."""
        ...

    def fresh(self, model: nn.Module, generator: torch.Generator) -> nn.Module:
        """Return an untrained model of the same architecture, ready for training."""
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
        """Return a model of the same architecture, trained from its start weights on other data.

        Args:
            model: Determines the architecture and, where it is recorded, the training settings.
            retain: Training data.
            epochs: Passes over ``retain``.
            generator: Source of all randomness.
            images: Called with the number of images of every finished batch.
            settings: Settings specific to the task.
        """
        ...
