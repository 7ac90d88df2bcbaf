# SPDX-License-Identifier: AGPL-3.0-or-later
"""Membership signals of each task, compared with loops and Ultralytics' own decoding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tasks import yolo_kit
from torch import nn

from expunge.errors import InputError
from expunge.tasks.confidence import class_signals
from expunge.tasks.module import ModuleTask


def test_logit_and_margin_follow_from_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, classes = torch.randn((9, 4), generator=generator), torch.arange(9) % 4
    found = class_signals(logits, classes)
    p = logits.double().softmax(1)
    for i, c in enumerate(classes.tolist()):
        assert float(found["logit"][i]) == pytest.approx(float(torch.log(p[i, c] / (1 - p[i, c]))))
        rest = [float(z) for j, z in enumerate(logits[i]) if j != c]
        assert float(found["margin"][i]) == pytest.approx(float(logits[i, c]) - max(rest), abs=1e-6)
    assert class_signals(logits[:, :1], classes * 0) == {}


def test_the_logit_does_not_saturate() -> None:
    logits = torch.tensor([[200.0, 0.0], [90.0, 0.0], [-200.0, 0.0]])
    assert class_signals(logits, torch.zeros(3, dtype=torch.long))["logit"].tolist() == [200.0, 90.0, -200.0]


def test_a_module_has_class_signals_only_for_class_targets() -> None:
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    model = nn.Linear(3, 2)
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
    found = task.signals(model, (x, y))
    assert set(found) == {"negative_loss", "logit", "margin"}
    assert torch.equal(found["negative_loss"], -task.loss(model, (x, y)).detach())
    regression = ModuleTask(nn.MSELoss(reduction="none"))
    found = regression.signals(model, (x, torch.randn(5, 2)))
    assert set(found) == {"negative_loss"}
    assert found["negative_loss"].shape == (5,)
    with pytest.raises(InputError, match="one number for a whole batch"):
        ModuleTask(lambda o, t: o.mean()).signals(model, (x, y))


def test_ultralytics_classifiers(tmp_path: Any) -> None:
    one = yolo_kit.make(tmp_path, "classify")
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1, 2, 3)
    found = one.task.signals(model, batch)
    assert set(found) == {"negative_loss", "logit", "margin"}
    assert torch.equal(found["negative_loss"], -one.task.loss(model, batch).detach())
    p = one.task.outputs(model, batch)["logits"].double().softmax(1)
    own = p[range(4), batch["cls"]]
    assert torch.allclose(found["logit"], torch.log(own / (1 - own)))
    assert not any(value.requires_grad for value in found.values())


@pytest.fixture(scope="module", params=list(yolo_kit.HEADS))
def each(request: Any, tmp_path_factory: pytest.TempPathFactory) -> yolo_kit.Kit:
    """Return a detector with every kind of head."""
    return yolo_kit.make(tmp_path_factory.mktemp("detect"), heads=request.param)


def test_each_head_has_its_own_loss(each: yolo_kit.Kit) -> None:
    model = each.task.clone(each.opened.module)
    batch = each.batch(*each.boxed()[:3], each.bare())
    found = each.task.signals(model, batch)
    assert torch.allclose(found["negative_loss"], -each.task.loss(model, batch), rtol=1e-5)
    criterion = model.criterion
    if "negative_loss.one2one" not in found:
        assert set(found) == {"negative_loss", "negative_loss.one2many", "matched.one2many"}
        assert torch.equal(found["negative_loss"], found["negative_loss.one2many"])
        return
    assert len(found) == 5
    for head, weights in (("one2many", (1.0, 0.0)), ("one2one", (0.0, 1.0))):
        criterion.o2m, criterion.o2o = weights  # the other head's loss has no weight
        assert torch.allclose(found[f"negative_loss.{head}"], -each.task.loss(model, batch), rtol=1e-5)


def overlap(one: list[float], two: list[float]) -> float:
    """Return the IoU of two boxes xyxy, computed by hand."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    inside = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, two)]
    return inside / (sum(areas) - inside)


def slow(boxes: torch.Tensor, sure: torch.Tensor, batch: dict[str, Any], image: int) -> float:
    """Return the confidence for one picture by loops: boxes (A, 4) xyxy, confidences (C, A)."""
    best = []
    for k in range(len(batch["cls"])):
        if int(batch["batch_idx"][k]) == image:
            x, y, w, h = (batch["bboxes"][k] * yolo_kit.IMGSZ).tolist()
            truth = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            row = sure[int(batch["cls"][k])].tolist()
            best.append(
                max([0.0] + [s for s, b in zip(row, boxes.tolist(), strict=True) if overlap(truth, b) >= 0.5])
            )
    return sum(best) / len(best) if best else 1 - float(sure.max())


def fitted(each: yolo_kit.Kit, batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch with true boxes near the model's own boxes, so that some match."""
    model = each.task.clone(each.opened.module)
    boxes, counts = decoded(each, model, batch), len(batch["cls"])
    found = batch["bboxes"].clone()
    for k in range(counts):
        x1, y1, x2, y2 = next(iter(boxes.values()))[0][int(batch["batch_idx"][k])][5 + 7 * k].tolist()
        found[k] = torch.tensor([(x1 + x2) / 2 + 1, (y1 + y2) / 2, x2 - x1, y2 - y1]) / yolo_kit.IMGSZ
    return {**batch, "bboxes": found}


def decoded(
    each: yolo_kit.Kit, model: Any, batch: dict[str, Any]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return each head's boxes (B, A, 4) xyxy in pixels and confidences (B, C, A), decoded by Ultralytics."""
    head, found = model.model[-1], {}
    before, head.xyxy = head.xyxy, True
    with torch.no_grad():
        raw = model(batch["img"])[1]
        for name, part in raw.items() if "one2many" in raw else [("one2many", raw)]:
            y = head._inference(part)
            found[name] = y[:, :4].permute(0, 2, 1), y[:, 4:]
    head.xyxy = before
    return found


def test_confidence_at_true_boxes_equals_a_search(each: yolo_kit.Kit) -> None:
    model = each.task.clone(each.opened.module)
    batch = fitted(each, each.batch(*each.boxed()[:3], each.bare()))
    found, matched = each.task.signals(model, batch), 0
    for head, (boxes, sure) in decoded(each, model, batch).items():
        truth = [slow(boxes[i], sure[i], batch, i) for i in range(4)]
        assert found[f"matched.{head}"].tolist() == pytest.approx(truth, abs=1e-5)
        matched += sum(value > 0 for value in truth[:3])
        assert all(0 <= value <= 1 for value in truth)
    assert matched >= 2, "some boxes must match"


def test_signals_are_computed_per_image_and_change_nothing(each: yolo_kit.Kit) -> None:
    model = each.task.clone(each.opened.module)
    before = yolo_kit.statistics(model)
    a, b = each.boxed()[:2]
    whole = each.task.signals(model, each.batch(a, each.bare(), b))
    single = each.task.signals(model, each.batch(b))
    for name, values in whole.items():
        assert values.shape == (3,)
        assert torch.allclose(values[2:], single[name], rtol=1e-4, atol=1e-5)
        assert not values.requires_grad
    bare = each.task.signals(model, each.batch(each.bare(), each.bare()))
    assert torch.isfinite(torch.stack(list(bare.values()))).all()
    assert yolo_kit.equal(before, yolo_kit.statistics(model))


def test_training_raises_the_signals(tmp_path: Any) -> None:
    """A few training steps on two pictures raise every signal of them."""
    one = yolo_kit.make(tmp_path)
    model = one.task.clone(one.opened.module)
    batch = one.batch(one.boxed()[0], one.bare())
    before = one.task.signals(model, batch)
    optimizer = torch.optim.Adam(one.task.parameters(model).values(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        one.task.loss(model, batch).sum().backward()
        optimizer.step()
    for name, after in one.task.signals(model, batch).items():
        if name.startswith("negative_loss"):
            assert (after > before[name]).all(), name
        else:
            assert (after >= before[name]).all(), name
            assert after[1] > before[name][1], name
