# SPDX-License-Identifier: Apache-2.0
"""Any ``torch.nn.Module`` with a loss for every sample: timm, torchvision and home-made classifiers.

Samples are what a torch data set gives: pairs (input, target). The targets of a classifier are class indices;
for anything else the parts of the protocol that need classes raise a clear error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.data import default_collate

from expunge.errors import InputError
from expunge.exact.trainer import isolated_rng
from expunge.tasks.confidence import class_signals
from expunge.tasks.device import resolve_device
from expunge.tasks.optimizer import adamw
from expunge.tasks.protocol import Outputs, Samples

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor]
SUPPRESSED = -1e4
EVALUATION_BATCH = 256
DECAY = 0.01  # of weights, in a retrain: AdamW's default


class ModuleTask:
    """A module and its loss; see :class:`expunge.tasks.protocol.Task`.

    Args:
        loss: ``loss(outputs, targets) -> (B,)``, for instance ``CrossEntropyLoss(reduction="none")``.
        fresh: Returns an untrained model, for ``retrain`` and for resetting a model whose layers have no
            ``reset_parameters``; torch's global generator is seeded before the call.
        evaluate: Returns metrics of (model, data) in place of accuracy and loss; the first one counts.
        device: Where to work; None: where the model is.

    Raises:
        InputError: If the loss is not one for every sample.
    """

    name = "module"
    vectorised = True

    def __init__(
        self,
        loss: Loss,
        *,
        fresh: Callable[[], nn.Module] | None = None,
        evaluate: Callable[[nn.Module, Samples], dict[str, float]] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if getattr(loss, "reduction", "none") != "none":
            raise InputError(
                "The loss gives one number for a whole batch.",
                "Unlearning needs the loss of every sample.",
                'Build it with reduction="none".',
            )
        self._loss, self._fresh, self._evaluate = loss, fresh, evaluate
        self.device = resolve_device(device or "cpu")
        self.metric = "accuracy"
        self._counts: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    def clone(self, model: nn.Module) -> nn.Module:
        """Return an independent copy, ready to learn."""
        twin = copy.deepcopy(model)
        self.ready(twin)
        return twin

    def ready(self, model: nn.Module) -> None:
        """Use running statistics and no dropout; what was frozen stays frozen."""
        model.to(self.device).eval()

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return by name the parameters that learn."""
        found = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not found:
            raise InputError(
                "The model has no parameter that may be changed.",
                "All of them have requires_grad=False.",
                "Call model.requires_grad_(True), or thaw the layers that may learn.",
            )
        return found

    def collate(self, items: Sequence[Any]) -> Pair:
        """Return (inputs, targets) on the task's device."""
        x, y = default_collate(list(items))
        return x.to(self.device), y.to(self.device)

    def size(self, batch: Pair) -> int:
        """Return the number of samples."""
        return len(batch[0])

    def loss(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        """Return the loss of every sample (B,)."""
        return self.batch_loss(model, *batch)

    def batch_loss(
        self, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of every sample (B,) under any function of the inputs."""
        values = self._loss(model(x), y)
        if values.shape[:1] != x.shape[:1]:
            raise InputError(
                "The loss gives one number for a whole batch.",
                f"For {len(x)} samples its shape is {tuple(values.shape)}.",
                'Build it with reduction="none".',
            )
        return values.flatten(1).mean(1) if values.ndim > 1 else values

    def outputs(self, model: nn.Module, batch: Pair) -> Outputs:
        """Return {"logits": (B, …)}."""
        return {"logits": model(batch[0])}

    @torch.no_grad()
    def signals(self, model: nn.Module, batch: Pair) -> dict[str, torch.Tensor]:
        """Return ``negative_loss`` (B,); of classifiers, ``logit`` and ``margin`` of the true class too."""
        said, y = model(batch[0]), batch[1]
        found = {"negative_loss": -self.loss(nn.Identity(), (said, y))}
        if said.ndim == 2 and y.ndim == 1 and not y.is_floating_point():
            found |= class_signals(said, y.long())
        return found

    @torch.no_grad()
    def doubts(self, model: nn.Module, batch: Pair) -> dict[str, torch.Tensor]:
        """Return ``label``: 1 − the probability of the labelled class (B,)."""
        own = self._logits(model, batch).softmax(1).gather(1, self._classes(batch)[:, None])
        return {"label": 1 - own.squeeze(1)}

    def divergence(self, student: Outputs, teacher: Outputs) -> torch.Tensor:
        """Return KL(softmax(teacher) ‖ softmax(student)) for every sample (B,)."""
        target = teacher["logits"].log_softmax(1)
        kl = nn.functional.kl_div(student["logits"].log_softmax(1), target, reduction="none", log_target=True)
        return kl.flatten(1).sum(1)

    def square_norm(self, outputs: Outputs) -> torch.Tensor:
        """Return ‖logits‖² (B,)."""
        return outputs["logits"].flatten(1).square().sum(1)

    def suppress(self, outputs: Outputs, batch: Pair) -> Outputs:
        """Return the logits with that of each sample's own class at −10⁴."""
        logits = outputs["logits"]
        return {"logits": logits.scatter(1, self._classes(batch)[:, None], SUPPRESSED)}

    def wrong_targets(self, model: nn.Module, batch: Pair, generator: torch.Generator) -> Pair:
        """Return the batch with classes drawn uniformly among the wrong ones."""
        classes = self._classes(batch)
        if model not in self._counts:
            self._counts[model] = self._logits(model, (batch[0][:1], batch[1][:1])).shape[1]
        count = max(self._counts[model], 2)
        shift = torch.randint(1, count, classes.shape, generator=generator).to(classes.device)
        return batch[0], (classes + shift) % count

    def own_targets(self, model: nn.Module, batch: Pair) -> Pair:
        """Return the batch with the predicted classes as targets."""
        self._classes(batch)
        return batch[0], self._logits(model, batch).argmax(1)

    def mistaken(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        """Return whether the predicted class is wrong (B,)."""
        return self._logits(model, batch).argmax(1) != self._classes(batch)

    def predicts(self, model: nn.Module, batch: Pair, classes: Sequence[int]) -> torch.Tensor:
        """Return whether the predicted class is one of these (B,)."""
        found = self._logits(model, batch).argmax(1)
        return torch.isin(found, torch.tensor(list(classes), device=found.device))

    def inputs(self, batch: Pair) -> torch.Tensor:
        """Return the inputs (B, …)."""
        return batch[0]

    def with_inputs(self, batch: Pair, inputs: torch.Tensor) -> Pair:
        """Return the batch with other inputs."""
        return inputs, batch[1]

    def input_range(self, batch: Pair) -> tuple[float, float] | None:
        """Unknown: inputs may be normalised in any way."""
        return None

    def features(self, model: nn.Module, batch: Pair) -> torch.Tensor:
        """Return the inputs of the last linear or convolutional layer (B, D)."""
        found: list[torch.Tensor] = []
        hook = self._head(model).register_forward_pre_hook(lambda _, given: found.append(given[0]))
        try:
            model(batch[0])
        finally:
            hook.remove()
        return found[-1].flatten(1)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the leaves with parameters in the order in which they are defined."""
        return [
            m
            for m in model.modules()
            if next(m.children(), None) is None and next(m.parameters(), None) is not None
        ]

    def reset(self, module: nn.Module, generator: torch.Generator) -> None:
        """Call ``reset_parameters`` of every layer below ``module``."""
        leaves = [m for m in module.modules() if next(m.parameters(recurse=False), None) is not None]
        without = [type(m).__name__ for m in leaves if not hasattr(m, "reset_parameters")]
        if without:
            raise InputError(
                f"A layer of type {without[0]} cannot be initialised anew.",
                "It has parameters, and no reset_parameters().",
                "Give `fresh`, a function that returns an untrained model.",
            )
        with isolated_rng():
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            for leaf in leaves:
                leaf.reset_parameters()  # type: ignore[operator]

    @torch.no_grad()
    def evaluate(self, model: nn.Module, data: Samples) -> dict[str, float]:
        """Return accuracy and mean loss (or what the user's function says)."""
        if self._evaluate is not None:
            found = self._evaluate(model, data)
            self.metric = next(iter(found))
            return found
        if not len(data):
            return {}
        hits, loss, known = 0, 0.0, True
        for start in range(0, len(data), EVALUATION_BATCH):
            batch = self.collate([data[i] for i in range(start, min(start + EVALUATION_BATCH, len(data)))])
            logits = model(batch[0])
            known = known and logits.ndim == 2 and not batch[1].is_floating_point() and batch[1].ndim == 1
            hits += int((logits.argmax(1) == batch[1]).sum()) if known else 0
            loss += float(self._loss(logits, batch[1]).flatten(1 if logits.ndim > 2 else 0).sum())
        if not known:
            self.metric = "negative_loss"
            return {"negative_loss": -loss / len(data)}
        return {"accuracy": hits / len(data), "loss": loss / len(data)}

    def fresh(self, model: nn.Module, generator: torch.Generator) -> nn.Module:
        """Return an untrained model of the same architecture; what is frozen in ``model`` stays as it is."""
        if self._fresh is None:
            twin = self.clone(model)
            self.reset(twin, generator)
        else:
            with isolated_rng():
                torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
                twin = self._fresh()
        with torch.no_grad():
            for name, module in model.named_modules():
                own, copy_ = list(module.named_parameters(recurse=False)), twin.get_submodule(name)
                fixed = [n for n, p in own if not p.requires_grad]
                for n in fixed:
                    copy_.get_parameter(n).requires_grad_(False).copy_(module.get_parameter(n))
                if own and len(fixed) == len(own):  # statistics belong to the layer
                    for n, buffer in module.named_buffers(recurse=False):
                        copy_.get_buffer(n).copy_(buffer)
        self.ready(twin)
        return twin

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
        """Train an untrained model on ``retain``: AdamW, a cosine from ``lr`` to zero, batch statistics.

        A remainder of one sample joins the batch before it, since batch norm cannot normalise one.

        Args:
            model, retain, epochs, generator, images: See the protocol.
            settings: ``lr`` (0.001) and ``batch`` (32).
        """
        lr, batch = retrain_settings(settings)
        student = self.fresh(model, generator)
        optimizer = adamw(self.parameters(student).values(), lr, DECAY)
        cuts = cuts_of(len(retain), batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs * len(cuts), 1))
        with isolated_rng():
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            for _ in range(epochs):
                order = torch.randperm(len(retain), generator=generator).tolist()
                for start, end in cuts:
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
            logits: torch.Tensor = model(batch[0])
        return logits

    def _classes(self, batch: Pair) -> torch.Tensor:
        target = batch[1]
        if target.is_floating_point() or target.ndim != 1:
            raise InputError(
                "This method needs a classifier.",
                f"The targets are of type {target.dtype} and shape {tuple(target.shape)}, not class indices.",
                "Choose a method that only needs the loss, for instance finetune, neggrad_plus or ssd.",
            )
        return target

    def _head(self, model: nn.Module) -> nn.Module:
        return self.layers(model)[-1]


def cuts_of(count: int, batch: int) -> list[tuple[int, int]]:
    """Return the bounds of the batches; a remainder of one sample joins the batch before it."""
    starts = list(range(0, count, batch))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def retrain_settings(settings: Mapping[str, Any]) -> tuple[float, int]:
    """Return learning rate and batch size of a retrain.

    Raises:
        InputError: If there is a setting that a retrain does not have.
    """
    unknown = sorted(set(settings) - {"lr", "batch"})
    if unknown:
        raise InputError(f"A retrain has no setting '{unknown[0]}'.", "It has lr and batch.", "Correct it.")
    return float(settings.get("lr", 1e-3)), int(settings.get("batch", 32))
