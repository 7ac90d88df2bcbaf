# SPDX-License-Identifier: Apache-2.0
"""Any model and any form of samples: it works as the plain form does, or is refused before any work."""

from __future__ import annotations

import copy
import hashlib
import random
import threading
from typing import Any

import any_model as a
import numpy as np
import pytest
import torch
from any_model import CE, TAKEN, Kind, net, pair, sets
from methods.table import LIGHT
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, WeightedRandomSampler

from expunge import audit, train_references, unlearn
from expunge.errors import InputError
from expunge.methods.base import all_methods
from expunge.tasks.module import ModuleTask
from expunge.tasks.working_copy import working_copy
from expunge.unlearning import api
from expunge.unlearning.auditing import Audit
from expunge.unlearning.probes import takes_noise

FEW: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 1},
    "ssd": {},
    "bad_teacher": {},
    "random_label": {"epochs": 1},
    "boundary_shrink": {"epochs": 1, "goal": "class", "classes": [1]},
    "retrain": {"epochs": 1},
}
PLAIN: dict[str, list[torch.Tensor]] = {}


def settings(method: str) -> dict[str, Any]:
    found = all_methods()[method]
    values = {**LIGHT.get(method, {}), **FEW.get(method, {})}
    if "epochs" in found.hyperparameters:
        values["epochs"] = 1
    if method == "unsir":
        values |= {"noise_steps": 2, "batch": 4}
    if method == "amun":
        values["doublings"] = 8
    if found.goals == ("class",):
        values |= {"goal": "class", "classes": [1]}
    return values


def run(kind: Kind, method: str, **more: Any) -> Any:
    arguments = {**settings(method), **kind.arguments, **more}
    return unlearn(kind.model(), loss=kind.loss, method=method, **kind.data(), **arguments)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [v.detach().clone() for v in model.state_dict().values()]


def plain(method: str) -> list[torch.Tensor]:
    if method not in PLAIN:
        PLAIN[method] = weights(run(Kind(net), method).model)
    return PLAIN[method]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


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


def pruned() -> nn.Module:
    model = net()
    prune.random_unstructured(model[0], "weight", 0.5)
    prune.l1_unstructured(model[2], "weight", 0.3)
    return a.used(model)


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


# What is refused, by both functions, before any work.


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(a.CLASSES))


def quantised() -> nn.Module:
    with pytest.warns(DeprecationWarning, match="quantization is deprecated"):
        return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear})  # type: ignore[no-any-return]


def sparse_buffer() -> nn.Module:
    model = net()
    model.register_buffer("links", torch.eye(3).to_sparse())
    return model


def damaged() -> nn.Module:
    model = net()
    model[0].weight.data[0, 0] = float("nan")
    return model


def locked() -> nn.Module:
    model = net()
    model.lock = threading.Lock()
    return model


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([pair(0)] * 3)


def few(count: int) -> dict[str, Any]:
    return {name: data[:count] for name, data in sets(pair).items()}


def with_loader(**settings: Any) -> dict[str, Any]:
    return {**sets(pair), "retain": DataLoader(sets(pair)["retain"], **settings)}  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Kind, str]] = {
    "no module": (Kind(lambda: "best.pt"), "no torch.nn.Module"),
    "a function": (Kind(lambda: torch.relu), "no torch.nn.Module"),
    "scripted": (Kind(lambda: torch.jit.script(net())), "scripted or traced"),
    "traced inside": (Kind(lambda: nn.Sequential(torch.jit.trace(net(), a.X[:2]))), "scripted or traced"),
    "quantised": (Kind(quantised), "quantised"),
    "lazy": (Kind(lazy), "not initialised"),
    "meta": (Kind(lambda: net().to("meta")), "has no weights"),
    "complex": (
        Kind(lambda: nn.Sequential(nn.Linear(a.WIDTH, a.CLASSES, dtype=torch.complex64))),
        "is complex",
    ),
    "sparse buffer": (Kind(sparse_buffer), "is sparse"),
    "damaged weights": (Kind(damaged), "not all numbers"),
    "cannot be copied": (
        Kind(lambda: locked()),
        "cannot be copied",
    ),
    "gives NaN": (Kind(lambda: a.Wraps(lambda o: o * float("nan"))), "not a finite number"),
    "gives nothing": (Kind(lambda: a.Wraps(lambda o: None)), "class scores cannot be told"),
    "two outputs and torch's loss": (Kind(lambda: a.Wraps(lambda o: (o, o))), "class scores cannot be told"),
    "fails": (Kind(lambda: a.Wraps(lambda o: o[99])), "model failed"),
    "triples": (Kind(net, lambda: sets(lambda i: (a.X[i], a.Y[i], i))), "not clear what the 3 parts"),
    "text targets": (Kind(net, lambda: sets(lambda i: (a.X[i], "dog"))), "targets are text"),
    "targets beyond": (Kind(net, lambda: sets(lambda i: (a.X[i], 7))), "none of the model's classes"),
    "negative targets": (Kind(net, lambda: sets(lambda i: (a.X[i], -1))), "none of the model's classes"),
    "two inputs for one": (Kind(net, lambda: sets(lambda i: ((a.X[i], a.X[i]), a.Y[i]))), "model failed"),
    "no target": (Kind(net, lambda: sets(lambda i: a.X[i])), "holds no samples"),
    "arrays": (Kind(net, lambda: sets(lambda i: a.X[i].numpy())), "has no target"),
    "dicts without target": (Kind(net, lambda: sets(lambda i: {"x": a.X[i], "c": a.Y[i]})), "is its target"),
    "dicts with two targets": (
        Kind(net, lambda: sets(lambda i: {"x": a.X[i], "y": a.Y[i], "label": a.Y[i]})),
        "is its target",
    ),
    "dicts that lack an input": (
        Kind(a.Two, lambda: sets(lambda i: {"a": a.X[i], "y": a.Y[i]})),
        "needs 'b'",
    ),
    "objects": (Kind(net, lambda: sets(lambda i: object())), "do not fit into a batch"),
    "varying shapes": (
        Kind(net, lambda: sets(lambda i: (a.X[i, : 3 + i % 2], a.Y[i]))),
        "do not fit into a batch",
    ),
    "an iterable": (Kind(net, lambda: {**sets(pair), "forget": Endless()}), "cannot be indexed"),
    "a generator": (
        Kind(net, lambda: {**sets(pair), "forget": (pair(i) for i in range(5))}),
        "cannot be indexed",
    ),
    "a loader of an iterable": (
        Kind(net, lambda: {**sets(pair), "retain": DataLoader(Endless())}),
        "indexed",
    ),
    "a number": (Kind(net, lambda: {**sets(pair), "forget": 5}), "cannot be indexed"),
    "nothing": (Kind(net, lambda: {**sets(pair), "retain": None}), "retain set cannot be indexed"),
    "a dict of tensors": (Kind(net, lambda: {**sets(pair), "forget": {"x": a.X, "y": a.Y}}), "indexed"),
    "tensors": (Kind(net, lambda: {**sets(pair), "forget": (a.X[:9], a.Y[:9])}), "holds no samples"),
    "a weighted loader": (
        Kind(net, lambda: with_loader(sampler=WeightedRandomSampler([1.0] * 12, 12))),
        "leaves samples out or repeats",
    ),
    "a loader of batches": (Kind(net, lambda: with_loader(batch_size=None)), "a way of its own"),
    "a failing data set": (
        Kind(net, lambda: {**sets(pair), "retain": Failing()}),
        "retain set failed at sample",
    ),
    "different collate_fn": (
        Kind(net, lambda: {**a.loaders(pair), "retain": DataLoader(sets(pair)["retain"], collate_fn=list)}),
        "in different ways",
    ),
    "a mean": (
        Kind(net, loss=lambda o, y: nn.functional.cross_entropy(o, y)),
        "one number for a whole batch",
    ),
    "torch's mean": (Kind(net, loss=nn.CrossEntropyLoss()), "one number for a whole batch"),
    "no loss": (Kind(net, loss=None), "no function"),
    "a loss that is no tensor": (Kind(net, loss=lambda o, y: 1.0), "does not give a tensor"),
    "a loss that fails": (Kind(net, loss=lambda o, y: {}["x"]), "loss failed"),
    "a loss that is broadcast": (
        Kind(
            lambda: nn.Sequential(nn.Linear(a.WIDTH, 1)),
            lambda: sets(lambda i: (a.X[i], float(a.X[i, 0]))),
            nn.MSELoss(reduction="none"),
        ),
        "with every other's target",
    ),
    "unpack of no pair": (Kind(net, arguments={"unpack": lambda s: s[0]}), "does not return a pair"),
    "unpack that fails": (Kind(net, arguments={"unpack": lambda s: s["x"]}), "`unpack` failed"),
    "unpack that is none": (Kind(net, arguments={"unpack": 5}), "no function"),
    "logits that fail": (Kind(net, arguments={"logits": lambda o: o.nothing}), "`logits` failed"),
    "logits of no tensor": (Kind(net, arguments={"logits": lambda o: None}), "does not return a tensor"),
}
"""What is given, and what the message says."""

ONLY_TO_UNLEARN: dict[str, tuple[Kind, str]] = {
    "all frozen": (Kind(lambda: net().requires_grad_(False)), "no parameter that may be changed"),
    "no gradient": (Kind(lambda: a.Wraps(lambda o: o.detach())), "cannot be derived"),
    "a forward of another": (Kind(lambda: borrowed()), "No gradient reaches the copy"),
    "sparse gradients": (
        Kind(
            lambda: nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Flatten(), nn.Linear(24, a.CLASSES)),
            TAKEN["words"].data,
        ),
        "gradients are sparse",
    ),
    "metrics that fail": (Kind(net, arguments={"evaluate": lambda m, d: {}["x"]}), "`evaluate` failed"),
    "no metrics": (Kind(net, arguments={"evaluate": lambda m, d: {}}), "no metric"),
    "metrics of no function": (Kind(net, arguments={"evaluate": 5}), "no function"),
    "a seed of text": (Kind(net, arguments={"seed": "0"}), "[Tt]he seed "),
    "a budget of text": (Kind(net, arguments={"budget": "much"}), "no number"),
}


class Failing(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        raise OSError("/home/somebody/picture.jpg")


def borrowed() -> nn.Module:
    model, other = net(), net()
    model.forward = lambda x: other(x)  # type: ignore[method-assign]
    return model


def refuse(call: Any, message: str | None = None) -> InputError:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert caught.value.next_step
    assert "/home" not in str(caught.value)
    return caught.value


def work(*_: Any, **__: Any) -> None:
    raise AssertionError("work began")


@pytest.mark.parametrize("name", [*REFUSED, *ONLY_TO_UNLEARN])
def test_unlearn_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, message = {**REFUSED, **ONLY_TO_UNLEARN}[name]
    monkeypatch.setattr(api, "run", work)
    refuse(lambda: run(kind, "finetune"), message)


@pytest.mark.parametrize("name", REFUSED)
def test_audit_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, message = REFUSED[name]
    monkeypatch.setattr(Audit, "ask", work)
    data = {k: v for k, v in kind.data().items() if k != "validation"}
    refuse(
        lambda: audit(kind.model(), original=kind.model(), loss=kind.loss, **data, **kind.arguments), message
    )


def test_a_fault_of_the_users_code_is_the_cause() -> None:
    for kind, cause in (
        (Kind(lambda: a.Wraps(lambda o: o[99])), IndexError),
        (Kind(net, loss=lambda o, y: {}["x"]), KeyError),
        (Kind(net, lambda: {**sets(pair), "retain": Failing()}), OSError),
        (Kind(net, arguments={"unpack": lambda s: s["x"]}), TypeError),
        (Kind(lambda: a.Wraps(lambda o: nn.functional.linear(o, o[:, :1]))), RuntimeError),
    ):
        assert isinstance(refuse(lambda kind=kind: run(kind, "ssd")).__cause__, cause)


def test_a_fault_that_shows_later_is_still_no_traceback() -> None:
    rows = [*sets(pair)["forget"][:5], (a.X[5][:3], a.Y[5])]
    refuse(
        lambda: run(Kind(net, lambda: {**sets(pair), "forget": rows}), "finetune"), "do not fit into a batch"
    )
    rows = [*sets(pair)["forget"][:5], (a.X[5], torch.tensor(9))]
    refuse(lambda: run(Kind(net, lambda: {**sets(pair), "forget": rows}), "finetune"), "none of the model's")


@pytest.mark.parametrize("count", [1, 2])
def test_one_sample_is_enough(count: int) -> None:
    for method in ("finetune", "ssd", "retrain"):
        assert run(Kind(net, lambda: few(count)), method).verdict in ("no-power", "fail")


# The advice works.


def test_the_advice_for_iterables_and_loaders_works() -> None:
    iterable = Endless()
    assert run(Kind(net, lambda: {**sets(pair), "forget": list(iterable)}), "finetune").verdict
    weighted = with_loader(sampler=WeightedRandomSampler([1.0] * 12, 12))
    assert run(Kind(net, lambda: {**weighted, "retain": weighted["retain"].dataset}), "finetune").verdict


def test_a_loader_of_a_part_gives_that_part() -> None:
    rows = [3, 1, 8, 5]
    loader = with_loader(sampler=SubsetRandomSampler(rows))
    part = {**sets(pair), "retain": [sets(pair)["retain"][i] for i in rows]}
    found, expected = (run(Kind(net, lambda d=d: d), "finetune") for d in (loader, part))
    assert found.metrics["after"]["retain"]["n"] == expected.metrics["after"]["retain"]["n"]
    assert same(weights(found.model), weights(expected.model))


def test_the_advice_for_sparse_and_meta_and_broadcast_works() -> None:
    sparse = ONLY_TO_UNLEARN["sparse gradients"][0]
    model = sparse.model()
    for module in model.modules():
        module.sparse = False
    assert run(Kind(lambda: model, sparse.data), "finetune").verdict
    empty = net().to("meta")
    empty.to_empty(device="cpu")
    empty.load_state_dict(net().state_dict())
    assert same(weights(run(Kind(lambda: empty), "finetune").model), plain("finetune"))
    mse = nn.MSELoss(reduction="none")
    narrow = REFUSED["a loss that is broadcast"][0]
    kind = Kind(narrow.model, narrow.data, lambda o, y: mse(o.squeeze(1), y))
    assert run(kind, "finetune").verdict
    buffered = net()
    buffered.register_buffer("links", torch.eye(3).to_sparse(), persistent=False)
    assert run(Kind(lambda: buffered), "finetune").verdict


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


# Audits.


TRAINED_COPIES = ("by name, in a pair", "regression", "words", "half", "all frozen", "pruned")
ONLY_OUTPUTS = ("two inputs", "tuple outputs", "multi-label", "named tuples", "loaders", "DataParallel")


@pytest.mark.parametrize("name", [*TRAINED_COPIES, *ONLY_OUTPUTS])
def test_an_audit_takes_what_unlearn_takes(name: str) -> None:
    more = {
        "half": Kind(lambda: net().half()),
        "all frozen": Kind(lambda: net().requires_grad_(False)),
        "pruned": Kind(pruned),
    }
    kind = {**TAKEN, **more}[name]
    data = {k: v for k, v in kind.data().items() if k != "validation"}
    trains = name in TRAINED_COPIES  # what trains copies costs most
    models = [kind.model() for _ in range(3 if trains else 2)]
    for i, model in enumerate(models[1:]):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * (i + 1))
    original, candidate, *references = models
    report = audit(
        candidate,
        original=original,
        references=references,
        loss=kind.loss,
        probes=["relearn", "linear", "int8"] if trains else ["linear", "int8"],
        **data,
        **kind.arguments,
    )
    assert report.level == ("standard" if trains else "quick")
    assert report.verdict in ("pass", "fail", "no-power")


def test_words_get_no_noise() -> None:
    task = ModuleTask(CE)
    assert takes_noise(task, sets(pair)["forget"])
    assert not takes_noise(task, TAKEN["words"].data()["forget"])


def test_an_audit_of_a_wrapped_model_is_that_of_the_model_inside() -> None:
    data = {k: v for k, v in sets(pair).items() if k != "validation"}
    other = run(Kind(net), "finetune").model
    bare = audit(other, original=net(), loss=CE, **data)
    wrapped = audit(nn.DataParallel(other), original=net(), loss=CE, **data)
    assert bare == wrapped


def test_an_audit_finds_the_overlap_of_structured_inputs() -> None:
    data = sets(lambda i: ((a.X[i, :2], a.X[i, 2:]), a.Y[i]))
    with pytest.raises(InputError, match="1 of the unseen samples"):
        audit(
            a.Two(), original=a.Two(), loss=CE, forget=data["forget"], retain=data["retain"],
            unseen=[*data["unseen"], data["forget"][0]],
        )  # fmt: skip


# References.


def test_references_of_dicts_are_those_of_pairs() -> None:
    retain = sets(pair)["retain"]
    expected = train_references(net(), retain=retain, loss=CE, count=2, epochs=2)
    dicts = train_references(
        net(), retain=[{"pixels": x, "label": y} for x, y in retain], loss=CE, count=2, epochs=2
    )
    assert all(same(weights(one), weights(two)) for one, two in zip(expected, dicts, strict=True))


@pytest.mark.parametrize("model", [lambda: a.Scaled(2), a.Tied])
def test_references_with_tied_weights_are_trained_at_once(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    retain, seen = sets(pair)["retain"], []
    single = train_references(model(), retain=retain, loss=CE, count=1, epochs=2)[0]
    monkeypatch.setattr(ModuleTask, "retrain", lambda *_, **__: seen.append(1))
    found = train_references(model(), retain=retain, loss=CE, count=2, epochs=2)[0]
    assert not seen
    for x, y in zip(found.parameters(), single.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
    assert found.first.weight is found.second.weight


class Branches(nn.Module):
    """A model that vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found if float(found.sum()) == float(found.sum()) else -found


def test_references_of_what_vmap_cannot_follow_are_trained_one_by_one() -> None:
    retain = sets(pair)["retain"]
    found = train_references(Branches(), retain=retain, loss=CE, count=2, epochs=2)
    expected = train_references(net(), retain=retain, loss=CE, count=2, epochs=2)
    for one, two in zip(found, expected, strict=True):
        for x, y in zip(weights(one), weights(two), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_references_come_in_the_models_precision() -> None:
    found = train_references(net().bfloat16(), retain=sets(pair)["retain"], loss=CE, count=2, epochs=1)
    assert {p.dtype for model in found for p in model.parameters()} == {torch.bfloat16}
