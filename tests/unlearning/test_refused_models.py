# SPDX-License-Identifier: Apache-2.0
"""What `unlearn` and `audit` refuse, before any work, and that the advice works."""

from __future__ import annotations

import threading
from typing import Any

import any_model as a
import pytest
import torch
from any_model import TAKEN, Kind, net, pair, sets
from any_model_kit import plain, refuse, run, same, weights
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, WeightedRandomSampler

from expunge import audit
from expunge.audits.audit_model import Audit
from expunge.unlearning import api


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
    "gives nothing": (Kind(lambda: a.Wraps(lambda o: None)), "class scores cannot be identified"),
    "two outputs and torch's loss": (
        Kind(lambda: a.Wraps(lambda o: (o, o))),
        "class scores cannot be identified",
    ),
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
    "a loader of batches": (Kind(net, lambda: with_loader(batch_size=None)), "makes its own batches"),
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
    "unpack that is none": (Kind(net, arguments={"unpack": 5}), "not a function"),
    "logits that fail": (Kind(net, arguments={"logits": lambda o: o.nothing}), "`logits` failed"),
    "logits of no tensor": (Kind(net, arguments={"logits": lambda o: None}), "does not return a tensor"),
}
"""Invalid arguments, and a part of the message."""

ONLY_TO_UNLEARN: dict[str, tuple[Kind, str]] = {
    "all frozen": (Kind(lambda: net().requires_grad_(False)), "no parameter that may be changed"),
    "no gradient": (Kind(lambda: a.Wraps(lambda o: o.detach())), "cannot be differentiated"),
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
    "a budget of text": (Kind(net, arguments={"budget": "much"}), "not a number"),
}


class Failing(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        raise OSError("somebody/picture.jpg")


def borrowed() -> nn.Module:
    model, other = net(), net()
    model.forward = lambda x: other(x)  # type: ignore[method-assign]
    return model


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
    monkeypatch.setattr(Audit, "score", work)
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
