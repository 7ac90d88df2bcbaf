# SPDX-License-Identifier: AGPL-3.0-or-later
"""The Task protocol for detection, compared with plain Ultralytics per image and torch's distributions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tasks import yolo_kit
from torch.distributions import Bernoulli, Laplace, kl_divergence
from torch.utils.data import ConcatDataset, Subset
from torchvision.ops import box_iou

from expunge.tasks import yolo_boxes
from expunge.tasks.base import get_task
from expunge.tasks.yolo import yolo_task
from expunge.tasks.yolo_retrain import recorded_plan


@pytest.fixture(scope="module", params=list(yolo_kit.HEADS))
def each(request: Any, tmp_path_factory: pytest.TempPathFactory) -> yolo_kit.Kit:
    """Return a detector with every kind of head."""
    return yolo_kit.make(tmp_path_factory.mktemp("detect"), heads=request.param)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> yolo_kit.Kit:
    """Return a small YOLO26."""
    return yolo_kit.make(tmp_path_factory.mktemp("detect"))


def alone(model: Any, batch: dict[str, Any], image: int) -> torch.Tensor:
    """Return the loss of one image as plain Ultralytics computes it, with running statistics."""
    own = batch["batch_idx"] == image
    single = {
        "img": batch["img"][image : image + 1],
        "cls": batch["cls"][own],
        "bboxes": batch["bboxes"][own],
        "batch_idx": torch.zeros(int(own.sum())),
    }
    model.model[-1].training = True
    try:
        total: torch.Tensor = model.criterion(model(single["img"]), single)[0].sum()
    finally:
        model.model[-1].training = False
    return total


def test_losses_and_gradients_equal_those_of_single_images(each: yolo_kit.Kit) -> None:
    model = each.task.clone(each.opened.module)
    a, b, c = each.boxed()[:3]
    batch = each.batch(a, each.bare(), b, c, a)
    losses = each.task.loss(model, batch)
    truth = torch.stack([alone(model, batch, i) for i in range(5)])
    assert torch.allclose(losses, truth, rtol=1e-5, atol=1e-6)
    assert losses[0] == losses[4]
    assert len({round(v, 4) for v in losses.tolist()}) == 4, "the samples must differ"
    weights = list(each.task.parameters(model).values())
    ours = torch.autograd.grad(losses.sum(), weights, allow_unused=True)
    theirs = torch.autograd.grad(truth.sum(), weights, allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or torch.allclose(mine, other, rtol=1e-3, atol=1e-5)
    single = each.task.loss(model, each.batch(b))
    assert torch.allclose(single, losses[2:3], rtol=1e-5), "a batch of one"
    bare = each.task.loss(model, each.batch(each.bare(), each.bare()))
    assert torch.allclose(bare, losses[1], rtol=1e-5), "no box in the whole batch"
    whole = model.criterion(model(batch["img"]), batch)[0].sum()
    assert not torch.allclose(whole, truth.sum(), rtol=1e-3), "Ultralytics' batch loss differs"


def test_heads_have_their_final_weights_and_one_to_one_does_not_change_the_backbone(
    one: yolo_kit.Kit,
) -> None:
    model = one.task.clone(one.opened.module)
    assert (model.criterion.o2m, model.criterion.o2o) == pytest.approx((0.1, 0.9))
    outputs = one.task.outputs(model, one.batch(0, 1))
    backbone = next(model.parameters())
    moved = torch.autograd.grad(
        outputs["one2one.scores"].sum(), backbone, allow_unused=True, retain_graph=True
    )
    assert moved[0] is None
    assert torch.autograd.grad(outputs["one2many.scores"].sum(), backbone)[0].abs().sum() > 0


def test_outputs_are_batch_first_and_computed_per_image(each: yolo_kit.Kit) -> None:
    model = each.task.clone(each.opened.module)
    outputs = each.task.outputs(model, each.batch(0, 1, 2))
    assert set(outputs) in (
        {"one2many.scores", "one2many.boxes"},
        {"one2many.scores", "one2many.boxes", "one2one.scores", "one2one.boxes"},
    )
    assert outputs["one2many.scores"].shape == (3, 3, 84)
    single = each.task.outputs(model, each.batch(1))
    for name, value in outputs.items():
        assert torch.allclose(value[1:2], single[name], atol=1e-4)
    norms, outputs = each.task.square_norm(outputs).detach(), {k: v.detach() for k, v in outputs.items()}
    assert float(norms[1]) == pytest.approx(sum(float((v[1] ** 2).sum()) for v in outputs.values()), rel=1e-5)


def test_divergence_is_zero_only_for_equal_models_and_changes_only_the_student(each: yolo_kit.Kit) -> None:
    model = each.task.clone(each.opened.module)
    outputs = each.task.outputs(model, each.batch(0, 1, 2))
    assert torch.equal(each.task.divergence(outputs, outputs), torch.zeros(3))
    for name in outputs:
        for size in (1e-3, 1.0):
            other = {k: v.detach().clone() for k, v in outputs.items()}
            other[name][1] += size * torch.randn(other[name][1].shape, generator=yolo_kit.seeded())
            for pair in ((other, outputs), (outputs, other)):
                value = each.task.divergence(*pair)
                assert value[1] > 0
                assert value[[0, 2]].abs().sum() == 0
    student = {k: (v.detach() + 0.1).requires_grad_() for k, v in outputs.items()}
    teacher = {k: v.detach().clone().requires_grad_() for k, v in outputs.items()}
    each.task.divergence(student, teacher).sum().backward()
    assert all(v.grad is not None and v.grad.abs().sum() > 0 for v in student.values())
    assert all(v.grad is None for v in teacher.values())


def test_divergence_equals_torchs_distributions() -> None:
    generator = yolo_kit.seeded()
    scores = [torch.randn((2, 3, 5), generator=generator, dtype=torch.float64) for _ in range(2)]
    sides = [2 + torch.rand((2, 4, 5), generator=generator, dtype=torch.float64) for _ in range(2)]
    found = yolo_boxes.divergence(scores[0], sides[0], scores[1], sides[1], (7.5, 0.5, 1.5))
    for image in range(2):
        student, teacher = (Bernoulli(logits=s[image]) for s in scores)
        total = 0.5 * kl_divergence(teacher, student).sum()
        sure = scores[1][image].sigmoid().amax(0)
        for anchor in range(5):
            left, top, right, bottom = sides[1][image, :, anchor]
            scale = torch.stack([left + right, top + bottom]).repeat(2) / 7.5
            far = kl_divergence(
                Laplace(sides[1][image, :, anchor], scale), Laplace(sides[0][image, :, anchor], scale)
            )
            total = total + sure[anchor] * far.sum()
        assert torch.allclose(found[image], total / sure.sum().clamp(min=1))


def test_far_boxes_diverge_as_steeply_as_the_loss() -> None:
    """Moving a side of a 10 wide box by a tenth more costs 7.5 times the lost share (for one anchor)."""
    scores, sides = torch.full((1, 1, 1), 20.0), torch.tensor([[[5.0], [5], [5], [5]]])
    values = []
    for step in (4.0, 5.0):
        other = sides.clone()
        other[0, 0, 0] -= step
        values.append(yolo_boxes.divergence(scores, other, scores, sides, (7.5, 0.5, 1.5)))
    assert float(values[1] - values[0]) == pytest.approx(0.75, abs=0.03)


def test_only_training_changes_the_statistics(one: yolo_kit.Kit) -> None:
    task, model = one.task, one.task.clone(one.opened.module)
    before, batch = yolo_kit.statistics(model), one.batch(0, 1, one.bare())
    state = {k: v.clone() for k, v in one.opened.module.state_dict().items()}
    task.loss(model, batch).sum().backward()
    task.divergence(task.outputs(model, batch), task.outputs(model, batch))
    task.wrong_targets(model, batch, yolo_kit.seeded())
    task.own_targets(model, batch)
    task.misclassified(model, batch)
    task.predicts(model, batch, [0])
    task.features(model, batch)
    task.evaluate(model, one.data)
    assert yolo_kit.equal(before, yolo_kit.statistics(model))
    trained = task.retrain(
        model,
        Subset(one.data, [0, 1, 2]),
        epochs=1,
        generator=yolo_kit.seeded(),
        images=lambda n: None,
        initial=state,
    )
    assert not yolo_kit.equal(before, yolo_kit.statistics(trained))
    assert yolo_kit.equal(state, one.opened.module.state_dict())


def test_wrong_boxes_have_another_position_and_class(one: yolo_kit.Kit) -> None:
    batch, bare = one.batch(*one.boxed()[:4], one.bare()), 4
    wrong = one.task.wrong_targets(None, batch, yolo_kit.seeded(3))
    again = one.task.wrong_targets(None, batch, yolo_kit.seeded(3))
    other = one.task.wrong_targets(None, batch, yolo_kit.seeded(4))
    assert torch.equal(wrong["bboxes"], again["bboxes"])
    assert torch.equal(wrong["cls"], again["cls"])
    assert not torch.equal(wrong["bboxes"], other["bboxes"])
    assert wrong["img"] is batch["img"]
    corners = yolo_boxes.xywh_to_xyxy(wrong["bboxes"])
    assert corners.min() > -1e-6
    assert corners.max() < 1 + 1e-6
    for image in range(4):
        mine, true = wrong["batch_idx"] == image, batch["batch_idx"] == image
        assert torch.allclose(wrong["bboxes"][mine][:, 2:], batch["bboxes"][true][:, 2:])
        overlap = box_iou(corners[mine], yolo_boxes.xywh_to_xyxy(batch["bboxes"][true]))
        assert overlap.max() < 0.2
        assert (wrong["cls"][mine] != batch["cls"][true]).all()
    assert (wrong["batch_idx"] == bare).sum() == 1, "a picture without boxes gets a wrong box"
    model = one.task.clone(one.opened.module)
    assert torch.isfinite(one.task.loss(model, wrong)).all()


def test_moved_boxes_do_not_overlap_the_original_ones_if_possible() -> None:
    boxes = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.3, 0.1], [0.5, 0.5, 0.1, 0.1]])
    for seed in range(20):
        moved = yolo_boxes.move_boxes(boxes, yolo_kit.seeded(seed))
        assert box_iou(yolo_boxes.xywh_to_xyxy(moved), yolo_boxes.xywh_to_xyxy(boxes)).max() == 0
    full = yolo_boxes.move_boxes(torch.tensor([[0.5, 0.5, 1.0, 1.0]]), yolo_kit.seeded())
    assert torch.allclose(full, torch.tensor([[0.5, 0.5, 1.0, 1.0]])), "no free position: it does not move"


def test_own_targets_are_the_predictions(each: yolo_kit.Kit) -> None:
    model, batch = each.task.clone(each.opened.module), each.batch(*each.boxed()[:2], each.bare())
    own = each.task.own_targets(model, batch)
    assert len(own["bboxes"]) > 0, "the model must detect something"
    assert not each.task.misclassified(model, own).any()
    assert each.task.misclassified(model, batch).all(), "a random model is wrong everywhere"
    classes = own["cls"].view(-1).long()
    here = torch.stack([(classes[own["batch_idx"] == i] == 2).any() for i in range(3)])
    assert torch.equal(each.task.predicts(model, batch, [2]), here)
    less = {**own, **{k: own[k][1:] for k in ("cls", "bboxes", "batch_idx")}}
    assert each.task.misclassified(model, less)[0]
    renamed = {**own, "cls": (own["cls"] + 1) % 3}
    assert each.task.misclassified(model, renamed).all()


def test_suppression_covers_the_labelled_classes_at_every_anchor(one: yolo_kit.Kit) -> None:
    batch = one.batch(one.boxed()[0], one.bare())
    outputs = one.task.outputs(one.task.clone(one.opened.module), batch)
    hidden = one.task.suppress(outputs, batch)
    shown = set(batch["cls"][batch["batch_idx"] == 0].view(-1).long().tolist())
    for head in ("one2many", "one2one"):
        scores = hidden[f"{head}.scores"]
        for number in range(3):
            assert bool((scores[0, number] == -1e4).all()) == (number in shown)
        assert torch.equal(scores[1], outputs[f"{head}.scores"][1])
        assert torch.equal(hidden[f"{head}.boxes"], outputs[f"{head}.boxes"])
    assert torch.isfinite(one.task.divergence(outputs, hidden)).all()


def test_inputs_have_gradients(one: yolo_kit.Kit) -> None:
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1)
    inputs = one.task.inputs(batch)
    low, high = one.task.input_range(batch)
    assert low <= inputs.min() < inputs.max() <= high
    moving = inputs.clone().requires_grad_()
    one.task.loss(model, one.task.with_inputs(batch, moving)).sum().backward()
    assert moving.grad is not None
    assert (moving.grad.flatten(1).abs().sum(1) > 0).all()
    assert torch.equal(batch["img"], inputs.detach())


def test_features_are_the_pooled_inputs_of_the_head(one: yolo_kit.Kit) -> None:
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1, 2)
    features = one.task.features(model, batch)
    assert features.shape == (3, 24)
    model.model[-1].training = True
    levels = model(batch["img"])["one2many"]["feats"]
    model.model[-1].training = False
    assert torch.allclose(features, torch.cat([level.mean((2, 3)) for level in levels], 1))
    assert one.task.layers(model)[-1] is model.model[-1]


def test_metrics(one: yolo_kit.Kit) -> None:
    model = one.task.clone(one.opened.module)
    whole = one.task.evaluate(model, one.data)
    assert list(whole) == ["precision", "recall", "mAP50", "mAP50-95"]
    half = list(range(5))
    parts = ConcatDataset([Subset(one.data, half), Subset(one.data, list(range(5, len(one.data))))])
    assert one.task.evaluate(model, parts) == whole
    assert one.task.evaluate(model, Subset(one.data, [])) == {}
    assert one.task.evaluate(model, Subset(one.data, [one.bare()]))[one.task.metric] == 0.0
    plan = recorded_plan(one.opened, model, 1, 0, {})
    exact = get_task("detect").evaluate(
        [model.state_dict()], plan, one.scan.config, one.scan.root, one.data.samples
    )
    assert exact == whole, "equal to the exact path's metrics, which are compared with plain Ultralytics"
    ideal = one.task.evaluate(model, Relabelled(one, model))
    assert ideal["mAP50-95"] > one.task.evaluate(model, Subset(one.data, range(4)))["mAP50-95"]


class Relabelled:
    """Samples with a model's own predictions as labels."""

    def __init__(self, source: yolo_kit.Kit, model: Any) -> None:
        self._items = []
        for index in range(4):
            own = source.task.own_targets(model, source.batch(index))
            self._items.append({**source.data[index], "cls": own["cls"], "bboxes": own["bboxes"]})

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]


def test_items_can_be_collated_again(one: yolo_kit.Kit) -> None:
    items = [one.data[i] for i in (one.boxed()[0], one.bare(), one.boxed()[1])]
    first, second = one.task.collate(items), one.task.collate(items)
    for key in ("img", "cls", "bboxes", "batch_idx"):
        assert torch.equal(first[key], second[key])
    assert set(first["batch_idx"].tolist()) == {0.0, 2.0}
    assert one.task.size(first) == 3


def test_reset_is_reproducible(each: yolo_kit.Kit) -> None:
    outside = torch.get_rng_state()
    models = [each.task.clone(each.opened.module) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        each.task.reset(model, yolo_kit.seeded(seed))
    states = [model.state_dict() for model in models]
    assert yolo_kit.equal(states[0], states[1])
    assert not yolo_kit.equal(states[0], states[2])
    for name, value in each.opened.module.state_dict().items():
        if ".dfl." in name:
            assert torch.equal(states[0][name], value), "a constant"
        elif value.is_floating_point() and value.ndim > 1:
            assert not torch.equal(states[0][name], value)
    assert not any(
        v.abs().sum() for k, v in yolo_kit.statistics(models[0]).items() if k.endswith("running_mean")
    )
    assert models[0].model[-1].cv3[0][-1].bias.max() < -5, "the initial biases expect few objects"
    assert torch.equal(outside, torch.get_rng_state())


def test_frozen_layers(one: yolo_kit.Kit) -> None:
    for frozen, prefixes in ((2, ("model.0.", "model.1.")), ([1], ("model.1.",))):
        task = yolo_task(one.opened, frozen=frozen)
        names = task.parameters(task.clone(one.opened.module))
        every = dict(one.opened.module.named_parameters())
        assert set(every) - set(names) == {n for n in every if n.startswith(prefixes)}
