# SPDX-License-Identifier: Apache-2.0
"""Any model and any form of samples: it works as the plain form does, or is refused before any work."""

from __future__ import annotations

import copy
import hashlib
import random
from typing import Any

import any_model as a
import numpy as np
import pytest
import torch
from any_model import CE, TAKEN, Kind, net, pair, sets
from any_model_kit import FEW, plain, pruned, refuse, run, same, settings, weights
from torch import nn
from torch.utils.data import Dataset

from expunge import audit, unlearn
from expunge.errors import InputError
from expunge.methods.base import all_methods
from expunge.tasks.working_copy import working_copy

SOME = ("by name, in a pair", "two inputs", "tuple outputs", "multi-label", "regression", "words")
COMMON = ("finetune", "ssd")
PAIRS = [(name, m) for name in TAKEN for m in (FEW if name in SOME else COMMON)]


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_it_gives_what_the_plain_form_gives(name: str, method: str) -> None:
    kind = TAKEN[name]
    if method in kind.absent or (kind.absent is a.NO_CLASSES and method == "boundary_shrink"):
        with pytest.raises(InputError, match=kind.absent[method]):
            run(kind, method)
        return
    found = run(kind, method)
    assert found.verdict in ("pass", "fail", "no-power")
    assert not same(weights(found.model), weights(kind.model())) or found.unchanged or method == "ssd"
    masked = name == "by name, with more than it takes" and method == "boundary_shrink"
    if kind.plain and not masked:  # the mask is an input too, and is perturbed as one
        assert same(weights(found.model), plain(method))
    assert type(found.model) is type(kind.model())


def test_the_plain_form_is_a_control() -> None:
    assert not same(plain("finetune"), weights(net()))
    one, two = (weights(run(Kind(net), "finetune", batch=4, seed=seed).model) for seed in (0, 1))
    assert not same(one, two)


# Every method, on what is most common.

NEEDED: dict[str, dict[str, Any]] = {
    "rewind": {"checkpoint": net()},
    "scrub_rewind": {"options": {"unseen": 0.3}},
}
DRESSED = Kind(
    lambda: a.ByName(lambda o: a.Output(o, o)),
    lambda: sets(lambda i: {"pixels": a.X[i], "mask": torch.ones(a.WIDTH), "labels": a.Y[i]}),
)


def needed(method: str, model: nn.Module) -> dict[str, Any]:
    return {"checkpoint": copy.deepcopy(model)} if method == "rewind" else NEEDED.get(method, {})


@pytest.mark.parametrize("method", sorted(all_methods()))
def test_every_method_takes_dicts_and_structured_outputs(method: str) -> None:
    found = run(DRESSED, method, **needed(method, DRESSED.model()))
    expected = run(Kind(net), method, **needed(method, net()))
    if method in ("amun", "boundary_shrink", "unsir"):  # the mask is an input too, and is perturbed as one
        assert len(weights(found.model)) == len(weights(expected.model))
    else:
        assert same(weights(found.model), weights(expected.model))


@pytest.mark.parametrize("method", sorted(all_methods()))
def test_every_method_keeps_half_precision_and_rounds_once(method: str) -> None:
    def rounded() -> nn.Module:
        return net().half().float()

    half = run(Kind(lambda: net().half()), method, **needed(method, net().half())).model
    full = run(Kind(rounded), method, **needed(method, rounded())).model
    assert {v.dtype for v in half.state_dict().values()} == {torch.float16}
    assert same(weights(half), [v.half() for v in weights(full)])


@pytest.mark.parametrize("method", sorted(all_methods()))
def test_every_method_keeps_tied_weights_tied(method: str) -> None:
    result = run(TAKEN["tied weights"], method, **needed(method, a.Tied()))
    assert result.model.first.weight is result.model.second.weight
    assert len(list(result.model.parameters())) == 5


@pytest.mark.parametrize("method", sorted(all_methods()))
def test_every_method_takes_layers_with_two_names_and_parameters_that_are_a_number(method: str) -> None:
    one, two = (
        run(Kind(lambda n=n: a.Scaled(n)), method, **needed(method, a.Scaled(n))).model for n in (1, 2)
    )
    assert two.first is two.second
    assert same(list(one.parameters()), list(two.parameters()))


def test_tied_weights_and_buffers_stay_tied_in_other_precisions() -> None:
    def tied() -> nn.Module:
        model = a.Tied().half()
        model.register_buffer("scale", torch.ones(2, dtype=torch.float16))
        model.head.register_buffer("scale", model.scale)
        return model

    copied = working_copy(tied())
    for model in (copied.module, run(Kind(tied), "finetune").model):
        assert model.first.weight is model.second.weight
        assert model.scale is model.head.scale
        dtypes = {v.dtype for v in model.state_dict().values()}
        assert dtypes == {torch.float32 if model is copied.module else torch.float16}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_comes_back_as_it_was(dtype: torch.dtype) -> None:
    def mixed() -> nn.Module:
        model = nn.Sequential(nn.Linear(a.WIDTH, 8), nn.BatchNorm1d(8), nn.Linear(8, a.CLASSES)).to(dtype)
        model[1].float()
        return model

    result = run(Kind(mixed), "finetune")
    assert {k: v.dtype for k, v in result.model.state_dict().items()} == {
        k: v.dtype for k, v in mixed().state_dict().items()
    }
    for key, value in result.metrics["before"]["forget"].items():
        assert np.isfinite(value), key


def test_the_users_metric_sees_the_model_in_its_own_precision() -> None:
    seen = set()

    def evaluate(model: nn.Module, data: Any) -> dict[str, float]:
        seen.add((next(model.parameters()).dtype, type(data).__name__))
        return {"constant": 1.0}

    run(Kind(lambda: net().half()), "finetune", evaluate=evaluate)
    assert {dtype for dtype, _ in seen} == {torch.float16}
    assert "list" in {kind for _, kind in seen}  # as it was given


# What must not be touched.


def condition(model: nn.Module) -> Any:
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().float().numpy().tobytes())
    parameters = dict(model.named_parameters())
    return (
        digest.hexdigest(),
        {
            n: (p.requires_grad, None if p.grad is None else p.grad.clone().sum().item())
            for n, p in parameters.items()
        },
        {n: m.training for n, m in model.named_modules()},
        {n: id(p) for n, p in parameters.items()},
    )


@pytest.mark.parametrize(
    "wrap", [lambda m: m, nn.DataParallel, lambda m: m.half()], ids=["plain", "dp", "half"]
)
def test_the_model_and_the_generators_stay_as_they_are(wrap: Any) -> None:
    class Random(Dataset[Any]):
        """Augments with all three global generators."""

        def __init__(self, rows: range) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> Any:
            shift = torch.rand(1) + random.random() + np.random.rand()
            return a.X[self.rows[index]] + shift.float(), a.Y[self.rows[index]]

    data = {name: Random(range(*cut)) for name, cut in a.CUTS.items()}
    model = wrap(a.used(nn.Sequential(*net(), nn.Dropout(0.5), nn.BatchNorm1d(a.CLASSES))))
    before = condition(model)
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    done = [unlearn(model, loss=CE, method="finetune", epochs=1, seed=s, **data) for s in (3, 3)]
    audit(done[0].model, original=model, loss=CE, **{k: v for k, v in data.items() if k != "validation"})
    assert condition(model) == before
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == state
    assert same(weights(done[0].model), weights(done[1].model))
    assert not any(m.training for m in done[0].model.modules() if not isinstance(m, nn.DataParallel))
    assert all(p.grad is None for p in done[0].model.parameters())


@pytest.mark.parametrize("method", ["finetune", "ssd", "l1_sparse", "bad_teacher", "eu_k", "retrain"])
def test_a_pruned_model_stays_pruned(method: str) -> None:
    model = pruned()
    found = unlearn(model, loss=CE, method=method, allowed_drop=10, **settings(method), **sets(pair))
    result = found.model
    assert not found.unchanged or method == "ssd"
    changed = any(not torch.equal(p, q) for p, q in zip(model.parameters(), result.parameters(), strict=True))
    assert changed or method == "ssd"  # which may find nothing to dampen
    copy.deepcopy(result)
    for layer in (0, 2):
        mask = model[layer].weight_mask
        assert torch.equal(result[layer].weight_mask, mask)
        for _ in range(2):  # at once, and after a forward pass
            assert torch.equal(result[layer].weight, result[layer].weight_orig * mask)
            result(a.X[:2])


def test_a_pruned_model_in_half_precision_computes_its_weights_in_it() -> None:
    result = run(Kind(lambda: pruned().half()), "finetune", allowed_drop=10).model
    assert result[0].weight.dtype == result[0].weight_orig.dtype == torch.float16
    assert torch.equal(result[0].weight, result[0].weight_orig * result[0].weight_mask)
    assert not torch.equal(result[0].weight_orig, pruned().half()[0].weight_orig)


def test_a_retrain_of_a_pruned_model_keeps_nothing_it_learnt() -> None:
    model = pruned()
    with torch.no_grad():
        model[0].weight_orig.fill_(100.0)
    result = unlearn(model, loss=CE, method="retrain", epochs=1, allowed_drop=10, **sets(pair)).model
    assert float(result[0].weight_orig.detach().abs().max()) < 2


def test_a_compiled_model_comes_back_compiled() -> None:
    result = run(Kind(lambda: torch.compile(net())), "finetune")
    assert type(result.model).__name__ == "OptimizedModule"
    assert list(result.model.state_dict()) == [f"_orig_mod.{name}" for name in net().state_dict()]
    assert same(weights(result.model), plain("finetune"))


def test_adapters_learn_and_their_base_does_not() -> None:
    before, after = a.adapted().state_dict(), run(TAKEN["adapters"], "finetune").model
    changed = {k for k, v in after.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(".up." in k or ".down." in k for k in changed)
    learns = {k for k, p in after.named_parameters() if p.requires_grad}
    assert learns == {k for k in before if "base" not in k}


# Losses of several numbers, and of none that is a class.


def test_a_loss_of_several_numbers_counts_by_their_mean() -> None:
    kind = TAKEN["multi-label"]
    whole = run(kind, "finetune")
    mean = run(Kind(kind.model, kind.data, lambda o, y: kind.loss(o, y).mean(1)), "finetune")
    assert same(weights(whole.model), weights(mean.model))
    assert whole.metrics["after"]["forget"] == mean.metrics["after"]["forget"]
    forget = kind.data()["forget"]
    x, y = (torch.stack([s[k] for s in forget]) for k in (0, 1))
    expected = nn.functional.binary_cross_entropy_with_logits(net()(x), y).item()
    assert whole.metrics["before"]["forget"]["mean_loss"] == pytest.approx(expected, rel=1e-5)
    assert whole.metrics["before"]["forget"]["negative_loss"] == pytest.approx(-expected, rel=1e-5)


def test_a_class_cannot_be_removed_from_what_has_none() -> None:
    kind = TAKEN["regression"]
    refuse(lambda: run(kind, "finetune", goal="class", classes=[0]), "needs a classifier")
