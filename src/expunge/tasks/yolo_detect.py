# SPDX-License-Identifier: AGPL-3.0-or-later
"""The task of Ultralytics detection for methods and audits. YOLO26 has two heads; all quantities cover both.

Loss (B,): Ultralytics' criterion per image, Σ_h λ_h·L_h over the heads h, with the weights at the end of
training: λ = 0.1 for one-to-many and 0.9 for one-to-one; 1 if a model has one head. As in training, the
one-to-one head receives detached features: only the one-to-many head changes the backbone (and an input).

Outputs: for each head ``<head>.scores`` (B, C, A), class logits, and ``<head>.boxes`` (B, 4R, A), raw sides.

Divergence of a student q from a teacher p, summed over heads with the same λ_h::

    D_h = [g_cls Σ_{a,c} KL(Bernoulli(p_ac) ‖ Bernoulli(q_ac)) + Σ_a w_a Σ_s (e^{−d_as} + d_as − 1)] / N
    N = max(Σ_a w_a, 1)

w_a = max_c p_ac is the teacher's confidence at anchor a. d_as = g_box·|side_q − side_p| / extent, where
extent is that of the teacher's box (at least a stride). The last bracket is the KL between Laplace
distributions of scale extent/g_box: quadratic near 0 and, far from it, as steep as the loss's
g_box·(1 − IoU). Heads that predict distributions over R bins add g_dfl·KL(p ‖ q), averaged over the sides,
inside the sum over a. g are the training loss's gains. D ≥ 0, with D = 0 if and only if both heads are
equal. Like the loss, D is normalised by the amount of objects in the picture.

Wrong targets: every box keeps its size and moves to a random position that overlaps no true box. Its class
is drawn from the other classes, if there are any. A picture without boxes gets one random box.

Own targets: the model's detections with its default inference, confidence ≥ 0.25, after suppression.
``misclassified``: the detections do not match the labels one to one with IoU ≥ 0.5 and equal class.

Suppression sets the logits of the classes in a picture's labels to −10⁴ at all anchors of both heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from expunge.tasks import box_labels, yolo_boxes, yolo_signals
from expunge.tasks.boxes import PictureBoxes
from expunge.tasks.detect_eval import measure
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.protocol import Outputs, Samples
from expunge.tasks.yolo_base import Batch, YoloTask

SUPPRESSED = -1e4
CONFIDENCE, NMS_IOU = 0.25, 0.7
PER_BOX = ("cls", "bboxes")
MANY, ONE = "one2many", "one2one"
Raw = dict[str, dict[str, torch.Tensor]]


class YoloDetect(YoloTask):
    """Detection; see the module and :class:`expunge.tasks.protocol.Task`."""

    name = "detect"
    metric = "mAP50-95"

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device | str = "cpu",
        frozen: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(loaded, device, frozen)
        settings = self._settings
        self._gains = float(settings.box), float(settings.cls), float(settings.dfl)

    def ready(self, model: nn.Module) -> None:
        """Prepare a model as in every task, and set the heads' loss weights to their final values."""
        super().ready(model)
        criterion = cast(Any, model).criterion
        if hasattr(criterion, "o2m"):
            criterion.o2m = criterion.final_o2m
            criterion.o2o = criterion.total - criterion.o2m

    def collate(self, items: Sequence[Any]) -> Batch:
        """Return ``img`` (B, 3, S, S) in 0–1, ``cls`` (n, 1), ``bboxes`` (n, 4) and ``batch_idx`` (n,)."""
        batch: Batch = {"img": torch.stack([item["img"] for item in items]).to(self.device).float() / 255}
        for key in PER_BOX:
            batch[key] = torch.cat([item[key] for item in items]).to(self.device)
        counts = torch.tensor([len(item["cls"]) for item in items])
        batch["batch_idx"] = torch.arange(len(items)).repeat_interleave(counts).float().to(self.device)
        for key in ("im_file", "ori_shape", "ratio_pad"):
            batch[key] = [item.get(key) for item in items]
        return batch

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss of every sample (B,)."""
        criterion, raw = cast(Any, model).criterion, self._raw(model, batch)
        if MANY not in raw:
            return yolo_boxes.losses(criterion, raw[""], batch)
        many = yolo_boxes.losses(criterion.one2many, raw[MANY], batch)
        one = yolo_boxes.losses(criterion.one2one, raw[ONE], batch)
        total: torch.Tensor = criterion.o2m * many + criterion.o2o * one
        return total

    @torch.no_grad()
    def signals(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return ``negative_loss`` (B,), and ``negative_loss.<head>`` and ``matched.<head>`` per head."""
        criterion, raw = cast(Any, model).criterion, self._raw(model, batch)
        if MANY not in raw:
            scores = yolo_signals.signals({MANY: criterion}, {MANY: raw[""]}, batch)
            return {"negative_loss": scores[f"negative_loss.{MANY}"], **scores}
        scores = yolo_signals.signals({MANY: criterion.one2many, ONE: criterion.one2one}, raw, batch)
        many, one = scores[f"negative_loss.{MANY}"], scores[f"negative_loss.{ONE}"]
        return {"negative_loss": criterion.o2m * many + criterion.o2o * one, **scores}

    @torch.no_grad()
    def label_quality(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the doubts ``overlooked``, ``misplaced``, ``swapped`` and ``spurious`` (B,), in 0–1.

        See :mod:`expunge.tasks.box_labels`.
        """
        size, pictures = self._size(batch), []
        for i, detected in enumerate(self._detections(model, batch, box_labels.CONFIDENCE)):
            own = batch["batch_idx"] == i
            truth = yolo_boxes.xywh_to_xyxy(batch["bboxes"][own]) * size
            rows = detected.double().cpu().numpy()
            pictures.append(
                PictureBoxes(
                    truth.double().cpu().numpy().reshape(-1, 4),
                    batch["cls"][own].view(-1).long().cpu().numpy(),
                    rows[:, :4],
                    rows[:, 4],
                    rows[:, 5].astype("int64"),
                )
            )
        doubt = torch.from_numpy(box_labels.label_doubt(pictures))
        return dict(zip(box_labels.KINDS, doubt.T, strict=True))

    def outputs(self, model: nn.Module, batch: Batch) -> Outputs:
        """Return the class logits and box sides of every head."""
        outputs = {}
        for head, raw in self._raw(model, batch).items():
            for part in ("scores", "boxes"):
                outputs[f"{head or MANY}.{part}"] = raw[part]
        return outputs

    def divergence(self, student: Outputs, teacher: Outputs) -> torch.Tensor:
        """Return the divergence D (B,); see the module."""
        parts = []
        for head, weight in _weights(student).items():
            scores, sides = f"{head}.scores", f"{head}.boxes"
            part = yolo_boxes.divergence(
                student[scores], student[sides], teacher[scores], teacher[sides], self._gains
            )
            parts.append(weight * part)
        return torch.stack(parts).sum(0)

    def suppress(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Return the outputs with the logits of the classes in a picture's labels set to −10⁴."""
        image, classes = batch["batch_idx"].long(), batch["cls"].view(-1).long()
        suppressed = dict(outputs)
        for name, value in outputs.items():
            if name.endswith(".scores"):
                labelled = torch.zeros(value.shape[:2], dtype=torch.bool, device=value.device)
                labelled[image, classes] = True
                suppressed[name] = value.masked_fill(labelled[:, :, None], SUPPRESSED)
        return suppressed

    def wrong_targets(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with boxes at random positions, of wrong classes if there are several classes."""
        count, boxes, classes = len(self.loaded.names), [], []
        for i in range(self.size(batch)):
            own = batch["batch_idx"] == i
            true = batch["bboxes"][own].cpu()
            moved = yolo_boxes.move_boxes(true, generator) if len(true) else yolo_boxes.random_box(generator)
            shift = torch.randint(1, max(count, 2), (len(moved), 1), generator=generator)
            true_classes = (
                batch["cls"][own].cpu().long() if len(true) else torch.zeros((1, 1), dtype=torch.long)
            )
            boxes.append(moved)
            classes.append((true_classes + shift) % count)
        return self._with_boxes(batch, boxes, classes)

    def own_targets(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with the model's detections as targets."""
        size, boxes, classes = self._size(batch), [], []
        for detected in self._detections(model, batch):
            boxes.append(yolo_boxes.xyxy_to_xywh(detected[:, :4] / size))
            classes.append(detected[:, 5:6])
        return self._with_boxes(batch, boxes, classes)

    def misclassified(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return whether detections and labels do not match (B,), bool; see the module."""
        size, wrong = self._size(batch), []
        for i, detected in enumerate(self._detections(model, batch)):
            own = batch["batch_idx"] == i
            truth = yolo_boxes.xywh_to_xyxy(batch["bboxes"][own]) * size
            wrong.append(
                not yolo_boxes.boxes_match(detected[:, :4], detected[:, 5], truth, batch["cls"][own].view(-1))
            )
        return torch.tensor(wrong, device=self.device)

    def predicts(self, model: nn.Module, batch: Batch, classes: Sequence[int]) -> torch.Tensor:
        """Return whether a box of one of ``classes`` is detected (B,), bool."""
        wanted = torch.tensor(list(classes), device=self.device)
        predicted = [torch.isin(rows[:, 5].long(), wanted).any() for rows in self._detections(model, batch)]
        return torch.stack(predicted)

    def features(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the head's inputs (P3–P5), each averaged over its positions (B, D)."""
        levels: list[torch.Tensor] = []
        hook = self.layers(model)[-1].register_forward_pre_hook(lambda _, given: levels.extend(given[0]))
        try:
            self._raw(model, batch)
        finally:
            hook.remove()
        return torch.cat([level.mean((2, 3)) for level in levels], 1)

    def evaluate(self, model: nn.Module, data: Samples) -> dict[str, float]:
        """Return precision, recall, mAP50 and mAP50-95: none for an empty data set, zeros without boxes."""
        if not len(data):
            return {}
        return measure([model], self._batches(data), self.loaded.names, self.device)

    def _raw(self, model: nn.Module, batch: Batch) -> Raw:
        """Return the undecoded predictions of each head, with the head alone in training mode."""
        head = cast(nn.Sequential, model.model)[-1]
        was_training = head.training
        head.training = True  # its layers stay in evaluation mode, so their statistics do not change
        try:
            outputs = model(batch["img"])
        finally:
            head.training = was_training
        return cast(Raw, outputs) if MANY in outputs else {"": outputs}

    @torch.no_grad()
    def _detections(
        self, model: nn.Module, batch: Batch, confidence: float = CONFIDENCE
    ) -> list[torch.Tensor]:
        """Return the detections per image (n, 6): xyxy in pixels inside the picture, confidence, class."""
        from ultralytics.utils.nms import non_max_suppression

        end2end = bool(getattr(model, "end2end", False))
        size, detections = self._size(batch), []
        for rows in non_max_suppression(model(batch["img"]), confidence, NMS_IOU, end2end=end2end):
            boxes = rows[:, :4].clamp(min=0).minimum(size)
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
            detections.append(torch.cat([boxes, rows[:, 4:6]], 1)[area > 0])
        return detections

    def _size(self, batch: Batch) -> torch.Tensor:
        height, width = batch["img"].shape[2:]
        return torch.tensor([width, height, width, height], dtype=torch.float32, device=self.device)

    def _with_boxes(self, batch: Batch, boxes: list[torch.Tensor], classes: list[torch.Tensor]) -> Batch:
        counts = torch.tensor([len(part) for part in boxes])
        index = torch.arange(len(boxes)).repeat_interleave(counts)
        like = batch["bboxes"]
        return {
            **batch,
            "bboxes": torch.cat(boxes).to(like),
            "cls": torch.cat(classes).to(self.device, batch["cls"].dtype),
            "batch_idx": index.to(self.device, batch["batch_idx"].dtype),
        }


def _weights(outputs: Outputs) -> dict[str, float]:
    return {MANY: 0.1, ONE: 0.9} if f"{ONE}.scores" in outputs else {MANY: 1.0}
