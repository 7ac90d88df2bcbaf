# SPDX-License-Identifier: AGPL-3.0-or-later
"""The task of Ultralytics image classification for methods and audits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from expunge.tasks.confidence import class_signals
from expunge.tasks.protocol import Outputs, Samples
from expunge.tasks.yolo_base import Batch, YoloTask

SUPPRESSED = -1e4


class YoloClassify(YoloTask):
    """Classification with logits (B, C) and cross-entropy; see :class:`expunge.tasks.protocol.Task`."""

    name = "classify"
    metric = "top1"
    vectorised = True

    def collate(self, items: Sequence[Any]) -> Batch:
        """Return ``img`` (B, 3, S, S) in 0–1 and ``cls`` (B,)."""
        images = torch.stack([item["img"] for item in items])
        classes = torch.tensor([int(item["cls"]) for item in items])
        return {"img": images.to(self.device), "cls": classes.to(self.device)}

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy of every sample (B,)."""
        return nn.functional.cross_entropy(self._logits(model, batch), batch["cls"], reduction="none")

    @torch.no_grad()
    def signals(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return ``negative_loss``, and ``logit`` and ``margin`` of the true class (B,)."""
        logits = self._logits(model, batch)
        loss = nn.functional.cross_entropy(logits, batch["cls"], reduction="none")
        return {"negative_loss": -loss, **class_signals(logits, batch["cls"])}

    @torch.no_grad()
    def label_quality(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the doubt ``label``: 1 − the probability of the labelled class (B,), in 0–1."""
        labelled = self._logits(model, batch).softmax(1).gather(1, batch["cls"][:, None])
        return {"label": 1 - labelled.squeeze(1)}

    def outputs(self, model: nn.Module, batch: Batch) -> Outputs:
        """Return {"logits": (B, C)}."""
        return {"logits": self._logits(model, batch)}

    def divergence(self, student: Outputs, teacher: Outputs) -> torch.Tensor:
        """Return KL(softmax(teacher) ‖ softmax(student)) (B,)."""
        target = teacher["logits"].detach().log_softmax(1)
        log_probabilities = student["logits"].log_softmax(1)
        return (
            nn.functional.kl_div(log_probabilities, target, reduction="none", log_target=True)
            .sum(1)
            .clamp_min(0)
        )

    def suppress(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Return the logits with the logit of each sample's true class set to −10⁴."""
        return {"logits": outputs["logits"].scatter(1, batch["cls"][:, None], SUPPRESSED)}

    def wrong_targets(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with classes drawn uniformly from the wrong ones; unchanged for a single class."""
        count = len(self.loaded.names)
        shift = torch.randint(1, max(count, 2), batch["cls"].shape, generator=generator).to(self.device)
        return {**batch, "cls": (batch["cls"] + shift) % count}

    def own_targets(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with the predicted classes as targets."""
        return {**batch, "cls": self._predicted(model, batch)}

    def misclassified(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return whether the predicted class is wrong (B,)."""
        truth: torch.Tensor = batch["cls"]
        return self._predicted(model, batch) != truth

    def predicts(self, model: nn.Module, batch: Batch, classes: Sequence[int]) -> torch.Tensor:
        """Return whether the predicted class is one of ``classes`` (B,)."""
        return torch.isin(self._predicted(model, batch), torch.tensor(list(classes), device=self.device))

    def features(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the pooled features, which are the inputs of the last linear layer (B, D)."""
        captured: list[torch.Tensor] = []
        head: Any = self.layers(model)[-1]
        hook = head.linear.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            model(batch["img"])
        finally:
            hook.remove()
        return captured[-1]

    @torch.no_grad()
    def evaluate(self, model: nn.Module, data: Samples) -> dict[str, float]:
        """Return top-1 and top-5 accuracy; an empty dict for an empty data set."""
        if not len(data):
            return {}
        hits1 = hits5 = 0
        model.eval()
        for batch in self._batches(data):
            ranked = self._logits(model, batch).argsort(1, descending=True)[:, :5]
            truth = batch["cls"][:, None]
            hits1 += int((ranked[:, :1] == truth).sum())
            hits5 += int((ranked == truth).sum())
        return {"top1": round(hits1 / len(data), 5), "top5": round(hits5 / len(data), 5)}

    def _logits(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        output = model(batch["img"])
        logits: torch.Tensor = output[1] if isinstance(output, tuple) else output
        return logits

    @torch.no_grad()
    def _predicted(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return self._logits(model, batch).argmax(1)
