# SPDX-License-Identifier: Apache-2.0
"""The task of any ``torch.nn.Module`` with a per-sample loss: timm, torchvision and custom classifiers.

Samples come from a torch data set; :mod:`expunge.tasks.batches` turns them into pairs (inputs, targets). The
targets of a classifier are class indices. For other models, the methods of the protocol that need classes
raise an InputError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.utils import parametrize

from expunge.errors import InputError
from expunge.tasks.batches import (
    Batches,
    call,
    describe,
    float_inputs,
    leaves,
    map_leaves,
    replace_float_inputs,
    size_of,
)
from expunge.tasks.confidence import class_signals
from expunge.tasks.device import resolve_device
from expunge.tasks.faults import raise_as_input_error
from expunge.tasks.optimizer import adamw
from expunge.tasks.protocol import Outputs, Samples
from expunge.tasks.retrain_batches import batch_bounds, retrain_settings
from expunge.tasks.sample_loss import Loss, SampleLoss, class_scores
from expunge.tasks.untrained import reset_layers, untrained
from expunge.tasks.user_samples import CheckedSamples
from expunge.tasks.working_copy import copy_module
from expunge.training.random_state import isolated_rng

__all__ = ["Loss", "ModuleTask"]
Pair = tuple[Any, Any]
"""Inputs in one of the forms of :mod:`expunge.tasks.batches`, and targets."""

OTHER_METHOD = "Choose a method that only needs the loss, for instance finetune, neggrad_plus or ssd."
SUPPRESSED = -1e4
EVALUATION_BATCH = 256
DECAY = 0.01  # weight decay of a retrain: AdamW's default


class ModuleTask:
    """The task of a module and its loss; see :class:`expunge.tasks.protocol.Task`.

    Args:
        loss: ``loss(outputs, targets) -> (B,)``, for instance ``CrossEntropyLoss(reduction="none")``. If it
            returns several numbers per sample, their mean is used.
        fresh: Returns an untrained model, for ``retrain`` and for resetting models whose layers have no
            ``reset_parameters``. Torch's global generator is seeded before the call.
        evaluate: Returns metrics of (model, data) instead of accuracy and loss; the first is the main metric.
        device: Device to work on; None: the CPU.
        batches: The conversion of samples to batches, and the choice of the class scores among the outputs.
        present: Converts a copy of a model to the form that ``evaluate`` expects.
        trained: Whether ``fresh`` must return weights that differ from those of the given model.

    Raises:
        InputError: If the loss does not return one value per sample.
    """

    name = "module"

    def __init__(
        self,
        loss: Loss,
        *,
        fresh: Callable[[], nn.Module] | None = None,
        evaluate: Callable[[nn.Module, Samples], dict[str, float]] | None = None,
        device: torch.device | str | None = None,
        batches: Batches | None = None,
        present: Callable[[nn.Module], nn.Module] | None = None,
        trained: bool = False,
    ) -> None:
        for what, function in (("fresh", fresh), ("evaluate", evaluate)):
            if function is not None and not callable(function):
                raise InputError(
                    f"`{what}` is no function.", f"It is of the type {type(function).__name__}.", "Give one."
                )
        self.batches = batches or Batches()
        self._loss = SampleLoss(loss, self.batches)
        self._fresh, self._evaluate, self._present, self._trained = fresh, evaluate, present, trained
        self.device = resolve_device(device or "cpu")
        self.metric = "accuracy"
        self.vectorised = True
        self._counts: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    @property
    def classifies(self) -> bool | None:
        """Whether outputs are class scores and targets class indices; None: not yet known."""
        return self._loss.classifies

    def clone(self, model: nn.Module) -> nn.Module:
        """Return an independent copy, ready for training."""
        copied = copy_module(model)
        self.ready(copied)
        return copied

    def ready(self, model: nn.Module) -> None:
        """Set evaluation mode (running statistics, no dropout); frozen parameters stay frozen."""
        model.to(self.device).eval()

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name."""
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not parameters:
            raise InputError(
                "The model has no parameter that may be changed.",
                "All of them have requires_grad=False.",
                "Call model.requires_grad_(True), or thaw the layers that may learn.",
            )
        return parameters

    def collate(self, items: Sequence[Any]) -> Pair:
        """Return (inputs, targets) on the task's device."""
        inputs, targets = self.batches.make(items, self.device)
        self._loss.check(targets)
        return inputs, targets

    def size(self, batch: Pair) -> int:
        """Return the number of samples."""
        return size_of(batch)

    def loss(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        """Return the loss of every sample (B,)."""
        return self.batch_loss(model, *batch)

    def batch_loss(self, model: Callable[..., Any], x: Any, y: Any) -> torch.Tensor:
        """Return the loss of every sample (B,) for any function of the inputs."""
        return self._loss(call(model, x), y, size_of((x, y)))

    def learn_form(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        """Record the form of outputs and targets from a batch, and return its losses (B,).

        Raises:
            InputError: If outputs and targets do not fit together.
        """
        outputs = call(model, batch[0])
        self._loss.learn_form(outputs, batch[1])
        return self._loss(outputs, batch[1], size_of(batch))

    def outputs(self, model: nn.Module, batch: Pair) -> Outputs:
        """Return {"logits": (B, …)}."""
        return {"logits": self.batches.need_logits(call(model, batch[0]))}

    @torch.no_grad()
    def signals(self, model: nn.Module, batch: Pair) -> dict[str, torch.Tensor]:
        """Return ``negative_loss`` (B,); for classifiers also ``logit`` and ``margin`` of the true class."""
        outputs, y = call(model, batch[0]), batch[1]
        scores = {"negative_loss": -self._loss(outputs, y, size_of(batch))}
        logits = self.batches.find_logits(outputs)
        if logits is not None and class_scores(logits, y):
            scores |= class_signals(logits, y.long())
        return scores

    @torch.no_grad()
    def label_quality(self, model: nn.Module, batch: Pair) -> dict[str, torch.Tensor]:
        """Return the doubt ``label``: 1 − the probability of the labelled class (B,), in 0–1."""
        labelled = self._logits(model, batch).softmax(1).gather(1, self._classes(batch)[:, None])
        return {"label": 1 - labelled.squeeze(1)}

    def divergence(self, student: Outputs, teacher: Outputs) -> torch.Tensor:
        """Return KL(softmax(teacher) ‖ softmax(student)) of every sample (B,).

        Raises:
            InputError: If the outputs are not the scores of a classifier.
        """
        if self._loss.classifies is False:
            raise InputError(
                "This method needs a classifier.",
                "It compares the probabilities of classes, and the targets are no class indices.",
                OTHER_METHOD,
            )
        target = teacher["logits"].log_softmax(1)
        kl = nn.functional.kl_div(student["logits"].log_softmax(1), target, reduction="none", log_target=True)
        return kl.flatten(1).sum(1)

    def square_norm(self, outputs: Outputs) -> torch.Tensor:
        """Return ‖logits‖² (B,)."""
        return outputs["logits"].flatten(1).square().sum(1)

    def suppress(self, outputs: Outputs, batch: Pair) -> Outputs:
        """Return the logits with the logit of each sample's true class set to −10⁴."""
        logits = outputs["logits"]
        return {"logits": logits.scatter(1, self._classes(batch)[:, None], SUPPRESSED)}

    def wrong_targets(self, model: nn.Module, batch: Pair, generator: torch.Generator) -> Pair:
        """Return the batch with classes drawn uniformly from the wrong ones."""
        classes = self._classes(batch)
        if model not in self._counts:
            self._counts[model] = self._logits(model, _first_sample(batch)).shape[1]
        count = max(self._counts[model], 2)
        shift = torch.randint(1, count, classes.shape, generator=generator).to(classes.device)
        return batch[0], (classes + shift) % count

    def own_targets(self, model: nn.Module, batch: Pair) -> Pair:
        """Return the batch with the predicted classes as targets."""
        self._classes(batch)
        return batch[0], self._logits(model, batch).argmax(1)

    def misclassified(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        """Return whether the predicted class is wrong (B,)."""
        return self._logits(model, batch).argmax(1) != self._classes(batch)

    def predicts(self, model: nn.Module, batch: Pair, classes: Sequence[int]) -> torch.Tensor:
        """Return whether the predicted class is one of ``classes`` (B,)."""
        self._classes(batch)
        predicted = self._logits(model, batch).argmax(1)
        return torch.isin(predicted, torch.tensor(list(classes), device=predicted.device))

    def inputs(self, batch: Pair) -> torch.Tensor:
        """Return the floating-point inputs (B, …); several tensors are joined to one row per sample."""
        return float_inputs(batch[0])

    def with_inputs(self, batch: Pair, inputs: torch.Tensor) -> Pair:
        """Return the batch with new floating-point inputs."""
        return replace_float_inputs(batch[0], inputs), batch[1]

    def input_digest(self, batch: Pair) -> bytes:
        """Return a digest of all inputs of a batch."""
        digest = hashlib.sha256()
        for leaf in leaves(batch[0]):
            if isinstance(leaf, torch.Tensor):
                floats = leaf.is_floating_point() and leaf.element_size() < 4
                array = (leaf.detach().float() if floats else leaf.detach()).contiguous().cpu().numpy()
                digest.update(array.tobytes())
            else:
                digest.update(repr(leaf).encode())
        return digest.digest()

    def input_range(self, batch: Pair) -> tuple[float, float] | None:
        """Return None: the range is unknown, since inputs may be normalised in any way."""
        return None

    def features(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        """Return the inputs of the last linear or convolutional layer (B, D)."""
        captured: list[torch.Tensor] = []

        def capture(_: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            captured.extend(v for v in (*positional, *keywords.values())[:1] if isinstance(v, torch.Tensor))

        hook = self.layers(model)[-1].register_forward_pre_hook(capture, with_kwargs=True)
        try:
            call(model, batch[0])
        finally:
            hook.remove()
        if not captured:
            raise InputError(
                "The features of this model cannot be determined.",
                "Its last layer with weights is not called with a tensor.",
                "Leave out the probe linear.",
            )
        return captured[-1].flatten(1)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the leaf modules with parameters, in the order of their definition.

        A layer with parametrised weights counts as one leaf. A model without such layers is returned itself.
        """
        layers: list[nn.Module] = []
        nested: set[int] = set()
        for m in model.modules():
            parametrised = parametrize.is_parametrized(m)
            if parametrised:
                nested |= {id(part) for part in m.modules()} - {id(m)}
            leaf = next(m.children(), None) is None and next(m.parameters(), None) is not None
            if id(m) not in nested and (parametrised or leaf):
                layers.append(m)
        return layers or [model]

    def reset(self, module: nn.Module, generator: torch.Generator) -> None:
        """Call ``reset_parameters`` of every layer of ``module``."""
        reset_layers(module, generator)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, data: Samples) -> dict[str, float]:
        """Return accuracy and mean loss, or the metrics of the user's ``evaluate`` function."""
        if self._evaluate is not None:
            return self._custom_metrics(model, data)
        if not len(data):
            return {}
        hits, loss, classified = 0, 0.0, True
        for start in range(0, len(data), EVALUATION_BATCH):
            batch = self.collate([data[i] for i in range(start, min(start + EVALUATION_BATCH, len(data)))])
            outputs, y = call(model, batch[0]), batch[1]
            logits = self.batches.find_logits(outputs)
            classified = classified and class_scores(logits, y)
            hits += int((logits.argmax(1) == y).sum()) if classified and logits is not None else 0
            loss += float(self._loss(outputs, y, size_of(batch)).sum())
        if not classified:
            self.metric = "negative_loss"
            return {"negative_loss": -loss / len(data)}
        return {"accuracy": hits / len(data), "loss": loss / len(data)}

    def _custom_metrics(self, model: nn.Module, data: Samples) -> dict[str, float]:
        presented = self._present(copy_module(model)) if self._present else model
        with raise_as_input_error(
            "The function `evaluate` failed.", "It is called as evaluate(model, data)."
        ):
            metrics = self._evaluate(presented, data.inner if isinstance(data, CheckedSamples) else data)  # type: ignore[misc]
            metrics = {str(name): float(value) for name, value in metrics.items()}
        if not metrics:
            raise InputError("`evaluate` gives no metric.", "", "Let it return at least one, by name.")
        self.metric = next(iter(metrics))
        return metrics

    def fresh(self, model: nn.Module, generator: torch.Generator) -> nn.Module:
        """Return an untrained model of the same architecture; frozen parameters are copied from ``model``."""
        if self._fresh is None:
            fresh_model = self.clone(model)
            self.reset(fresh_model, generator)
        else:
            fresh_model = untrained(self._fresh, model, generator, trained=self._trained)
            self.ready(fresh_model)
        with torch.no_grad():
            for name, module in model.named_modules():
                parameters, target = (
                    list(module.named_parameters(recurse=False)),
                    fresh_model.get_submodule(name),
                )
                frozen = [n for n, p in parameters if not p.requires_grad]
                for n in frozen:
                    target.get_parameter(n).requires_grad_(False).copy_(module.get_parameter(n))
                if parameters and len(frozen) == len(parameters):  # statistics belong to the layer
                    for n, buffer in module.named_buffers(recurse=False):
                        target.get_buffer(n).copy_(buffer)
        self.ready(fresh_model)
        return fresh_model

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
        """Return a new model trained on ``retain``: AdamW, cosine decay of ``lr`` to zero, batch statistics.

        A last batch of one sample is merged into the batch before it, since batch norm needs at least two.

        Args:
            model, retain, epochs, generator, images: See the protocol.
            settings: ``lr`` (0.001) and ``batch`` (32).
        """
        lr, batch = retrain_settings(settings)
        student = self.fresh(model, generator)
        optimizer = adamw(self.parameters(student).values(), lr, DECAY)
        bounds = batch_bounds(len(retain), batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs * len(bounds), 1))
        with isolated_rng():
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            for _ in range(epochs):
                order = torch.randperm(len(retain), generator=generator).tolist()
                for start, end in bounds:
                    student.train(end - start > 1)
                    samples = self.collate([retain[i] for i in order[start:end]])
                    optimizer.zero_grad(set_to_none=True)
                    self.loss(student, samples).mean().backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                    images(end - start)
        self.ready(student)
        return student

    def _logits(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        with torch.no_grad():
            return self.outputs(model, batch)["logits"]

    def _classes(self, batch: Pair) -> torch.Tensor:
        target: torch.Tensor = batch[1]
        if not isinstance(target, torch.Tensor) or target.is_floating_point() or target.ndim != 1:
            kind = f" and type {target.dtype}" if isinstance(target, torch.Tensor) else ""
            raise InputError(
                "This method needs a classifier.",
                f"The targets are {describe(target)}{kind}, not class indices.",
                OTHER_METHOD,
            )
        return target


def _first_sample(batch: Pair) -> Pair:
    """Return a batch of the first sample only."""
    size = size_of(batch)

    def cut(leaf: Any) -> Any:
        return leaf[:1] if isinstance(leaf, torch.Tensor) and leaf.shape[:1] == (size,) else leaf

    return map_leaves(cut, batch[0]), map_leaves(cut, batch[1])
