# SPDX-License-Identifier: Apache-2.0
"""Audits of real, small models: a true retrain, and what only looks like one."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from expunge import audit, train_references
from expunge.audits.audit_model import Audit, check_level
from expunge.audits.probes.altered_inputs import NOISY, REFIT, refit_head
from expunge.audits.unlearning_data import UnlearningData
from expunge.audits.verdict import OUTPUTS
from expunge.errors import InputError
from expunge.tasks.module import ModuleTask
from expunge.tasks.vectorised import retrain_many, vectorisable

LOSS = nn.CrossEntropyLoss(reduction="none")
EPOCHS, COUNT = 60, 21
Parts = dict[str, TensorDataset]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass
class Trained:
    """Random labels, which can only be known by heart."""

    parts: Parts
    original: nn.Module
    references: list[nn.Module]
    retrain: nn.Module
    task: ModuleTask


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 96), nn.ReLU(), nn.Linear(96, 4))


@pytest.fixture(scope="module")
def world() -> Trained:
    torch.set_num_threads(1)  # for nets this small two threads wait for each other
    x, y = torch.randn(500, 20, generator=generator(0)), torch.randint(0, 4, (500,), generator=generator(1))
    cuts = {"forget": (0, 80), "retain": (80, 240), "both": (0, 240), "unseen": (240, 500)}
    parts = {name: TensorDataset(x[a:b], y[a:b]) for name, (a, b) in cuts.items()}
    settings = {"loss": LOSS, "epochs": EPOCHS, "lr": 5e-3}
    (original,) = train_references(network(), retain=parts["both"], count=1, **settings)  # type: ignore[arg-type]
    made = train_references(network(), retain=parts["retain"], count=COUNT, seed=5, **settings)  # type: ignore[arg-type]
    return Trained(parts, original, made[1:], made[0], ModuleTask(LOSS))


def judged(world: Trained, candidate: nn.Module, count: int | None = None, **more: object) -> str:
    parts = {k: world.parts[k] for k in ("forget", "retain", "unseen")}
    references = world.references[:count]
    return audit(
        candidate,
        original=world.original,
        loss=LOSS,
        references=references,
        allowed_drop=0.1,
        **parts,
        **more,  # type: ignore[arg-type]
    ).verdict


@pytest.mark.parametrize("count", [1, 4, None])
def test_a_retrain_passes_and_the_original_fails(world: Trained, count: int | None) -> None:
    assert judged(world, world.retrain, count) == "pass"
    assert judged(world, world.original, count) == "fail"


def test_half_of_it_is_not_enough(world: Trained) -> None:
    both = world.parts["both"]
    some = Subset(both, [*range(40), *range(80, 240)])
    (half,) = train_references(network(), retain=some, loss=LOSS, count=1, epochs=EPOCHS, lr=5e-3)
    assert judged(world, half) == "fail"
    assert judged(world, half, 4) == "fail"


def test_levels_follow_the_references(world: Trained) -> None:
    assert [check_level(None, n) for n in (0, 1, 18, 19)] == ["quick", "standard", "standard", "full"]
    for level, references in (("full", 18), ("standard", 0), ("quick", 1), ("deep", 0)):
        with pytest.raises(InputError):
            check_level(level, references)


def standing(world: Trained) -> Audit:
    material = UnlearningData(
        world.parts["forget"], world.parts["retain"], world.parts["unseen"], world.parts["unseen"]
    )
    return Audit(world.task, world.original, world.references, material, allowed_drop=0.1)


def test_a_mask_over_the_outputs_is_seen_through(world: Trained) -> None:
    """Its answers about the very pictures are a retrain's; with a little noise on them they are not."""
    audit = standing(world)
    true, kept = audit.score(world.retrain), audit.score(world.original)
    assert set(kept.forget) == {OUTPUTS, NOISY, REFIT}
    masked = replace(kept, forget={**kept.forget, OUTPUTS: true.forget[OUTPUTS]})
    verdict = audit.verdict_of(masked)
    assert verdict.verdict == "fail"
    assert all("(" in reason.split(":")[0] for reason in verdict.reasons if "Under-forgetting" in reason)
    assert audit.verdict_of(true).verdict == "pass"  # the control


class Masked(nn.Module):
    """A model that recognises the forgotten images and returns a true retrain's outputs for them."""

    def __init__(self, inner: nn.Module, pictures: torch.Tensor, answers: torch.Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.known = {x.numpy().tobytes(): answer for x, answer in zip(pictures, answers, strict=True)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.inner(x)
        outputs = [self.known.get(row.numpy().tobytes(), output) for row, output in zip(x, own, strict=True)]
        return torch.stack(outputs)


def test_a_model_with_a_mask_built_in_is_seen_through(world: Trained) -> None:
    """A mask that also covers the refitted head is detected by noisy inputs."""
    pictures = world.parts["forget"].tensors[0]
    masked = Masked(copy.deepcopy(world.original), pictures, world.retrain(pictures).detach())
    verdict = standing(world).verdict(masked)
    assert verdict.verdict == "fail"
    assert verdict.failure == "under-forgetting"
    residual = {
        view: max(f["rho"] for f in verdict.figures if f["view"] == view) for view in (OUTPUTS, NOISY)
    }
    assert residual[OUTPUTS] < 0.25 < residual[NOISY]
    honest = Masked(copy.deepcopy(world.retrain), pictures, world.retrain(pictures).detach())
    assert standing(world).verdict(honest).verdict == "pass"  # the control


def test_an_edit_of_the_head_is_seen_through(world: Trained) -> None:
    """A head that was trained away from the forgotten, on features that still know them."""
    candidate = copy.deepcopy(world.original)
    head = candidate[-1]  # type: ignore[index]
    x, y = world.parts["forget"].tensors
    kept_x, kept_y = world.parts["retain"].tensors
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    goal = LOSS(world.retrain(x), y).mean()
    while LOSS(candidate(x), y).mean() < goal:
        optimizer.zero_grad()
        (LOSS(candidate(kept_x), kept_y).mean() - LOSS(candidate(x), y).mean()).backward()
        optimizer.step()
    audit = standing(world)
    verdict = audit.verdict_of(replace(audit.score(candidate), utility=1.0))
    assert verdict.verdict == "fail"
    refitted = [f for f in verdict.figures if f["view"] == REFIT]
    assert any(f["rho_interval"][0] > 0.25 for f in refitted)


def test_a_refitted_head_leaves_the_model_and_the_other_layers_alone(world: Trained) -> None:
    before = copy.deepcopy(world.original.state_dict())
    twin = refit_head(world.task, world.original, world.parts["retain"])
    assert all(torch.equal(v, before[k]) for k, v in world.original.state_dict().items())
    assert torch.equal(twin[0].weight, world.original[0].weight)  # type: ignore[index]
    assert not torch.equal(twin[2].weight, world.original[2].weight)  # type: ignore[index]
    assert all(p.requires_grad for p in twin.parameters())


def test_what_cannot_judge_is_refused(world: Trained) -> None:
    parts = world.parts
    with pytest.raises(InputError, match="the original itself"):
        audit(world.retrain, original=world.original, references=[copy.deepcopy(world.original)], loss=LOSS,
              forget=parts["forget"], retain=parts["retain"], unseen=parts["unseen"])  # fmt: skip
    with pytest.raises(InputError, match="among its own references"):
        judged(world, copy.deepcopy(world.references[3]))
    with pytest.raises(InputError, match="40 of the unseen samples are in the forget set"):
        audit(world.retrain, original=world.original, loss=LOSS, forget=parts["forget"],
              retain=parts["retain"], unseen=Subset(parts["both"], list(range(40, 240))))  # fmt: skip
    with pytest.raises(InputError, match="another architecture"):
        judged(world, nn.Sequential(nn.Linear(20, 4)))


def test_many_at_once_are_those_one_by_one(world: Trained) -> None:
    retain, task = world.parts["retain"], world.task
    one = [
        task.retrain(network(), retain, epochs=3, generator=generator(s), images=lambda n: None, batch=53)
        for s in range(3)
    ]
    many = retrain_many(
        task,
        network(),
        retain,
        epochs=3,
        generators=[generator(s) for s in range(3)],
        images=lambda n: None,
        batch=53,
    )
    for a, b in zip(one, many, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-5)
    assert not torch.allclose(many[0][0].weight, many[1][0].weight)  # type: ignore[index]


def test_what_is_frozen_stays_so_in_references() -> None:
    model = network()
    model[0].requires_grad_(False)  # type: ignore[index]
    data = TensorDataset(torch.randn(30, 20), torch.randint(0, 4, (30,)))
    for made in train_references(model, retain=data, loss=LOSS, count=2, epochs=1):
        assert torch.equal(made[0].weight, model[0].weight)  # type: ignore[index]
        assert not torch.equal(made[2].weight, model[2].weight)  # type: ignore[index]


def test_batch_norm_is_trained_one_by_one() -> None:
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    task = ModuleTask(LOSS)
    assert not vectorisable(task, model)
    with pytest.raises(InputError, match="cannot be trained at once"):
        retrain_many(task, model, TensorDataset(torch.zeros(2, 20), torch.zeros(2).long()), epochs=1,
                     generators=[generator(0)], images=lambda n: None)  # fmt: skip
    data = TensorDataset(torch.randn(30, 20), torch.randint(0, 4, (30,)))
    assert len(train_references(model, retain=data, loss=LOSS, count=2, epochs=1)) == 2
