# SPDX-License-Identifier: Apache-2.0
"""Models and samples in the forms in which people have them, all of one small classifier."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader, TensorDataset

WIDTH, CLASSES = 6, 3
CUTS = {"forget": (0, 6), "retain": (6, 18), "validation": (18, 26), "unseen": (26, 34)}
CE = nn.CrossEntropyLoss(reduction="none")
Named = namedtuple("Named", "image label")
Sample = Callable[[int], Any]

_draws = torch.Generator().manual_seed(0)
X = torch.randn(40, WIDTH, generator=_draws)
_first = ((X[:, 0] > 0) != (X[:, 1] > 0.5)).nonzero().flatten()[:6]  # the forget set is of class 1
X = torch.cat([X[_first], X[[i for i in range(len(X)) if i not in _first]]])
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()


def net() -> nn.Sequential:
    """Return the classifier; the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def sets(sample: Sample) -> dict[str, list[Any]]:
    """Return all data sets, as lists."""
    return {name: [sample(i) for i in range(*cut)] for name, cut in CUTS.items()}


def pair(i: int) -> Any:
    """Return the plain form of a sample."""
    return X[i], Y[i]


def loaders(sample: Sample, **settings: Any) -> dict[str, Any]:
    """Return all data sets, as loaders."""
    return {name: DataLoader(data, 4, **settings) for name, data in sets(sample).items()}  # type: ignore[arg-type]


def collated(samples: list[dict[str, Any]]) -> tuple[torch.Tensor, list[int]]:
    """Return a batch whose targets are a list."""
    return torch.stack([s["pixels"] for s in samples]), [s["class"] for s in samples]


class Wraps(nn.Module):
    """A model around the classifier whose outputs are put into something else."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.inner, self._wrap = net(), wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self._wrap(self.inner(x))


class ByName(nn.Module):
    """A model that takes its inputs by name alone."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any] = lambda o: o) -> None:
        super().__init__()
        self.inner, self._wrap = net(), wrap

    def forward(self, *, pixels: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        return self._wrap(self.inner(pixels if mask is None else pixels * mask))


class Two(nn.Module):
    """A model with two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(torch.cat([a, b], 1))
        return found


class FromDict(nn.Module):
    """A model that takes a whole dict."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = self.inner(torch.cat([batch["a"], batch["b"]], 1))
        return found


@dataclass
class Output:
    """Outputs as libraries of transformers give them."""

    logits: torch.Tensor
    hidden: torch.Tensor


class Tied(nn.Module):
    """A model of which two layers have the same weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.head = nn.Linear(WIDTH, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(torch.relu(self.second(torch.relu(self.first(x)))))
        return found


class Scaled(nn.Module):
    """A model with a number as a parameter, and one layer that is used twice, under one name or two."""

    def __init__(self, names: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first = nn.Linear(WIDTH, WIDTH)
            self.head = nn.Linear(WIDTH, CLASSES)
        self.scale = nn.Parameter(torch.ones(()))
        if names == 2:
            self.second = self.first

    def reset_parameters(self) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        second = getattr(self, "second", self.first)
        found: torch.Tensor = self.scale * self.head(torch.relu(second(torch.relu(self.first(x)))))
        return found


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.base(x) + self.up(self.down(x))
        return found


class LowRank(nn.Module):
    """A parametrisation that adds a product of low rank."""

    def __init__(self, like: torch.Tensor) -> None:
        super().__init__()
        self.left = nn.Parameter(0.1 * torch.ones(like.shape[0], 2))
        self.right = nn.Parameter(0.1 * torch.ones(2, like.shape[1]))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.left @ self.right


class Stash(nn.Module):
    """A model that keeps its last activations."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()
        self.last: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        self.last = [found, {"x": x}]
        return found


def adapted() -> nn.Module:
    """Return the classifier with adapters."""
    model = net()
    return nn.Sequential(Adapted(model[0]), nn.ReLU(), Adapted(model[2]))  # type: ignore[arg-type]


def parametrised() -> nn.Module:
    """Return the classifier with a frozen weight under a parametrisation that learns."""
    model = net()
    parametrize.register_parametrization(model[0], "weight", LowRank(model[0].weight))  # type: ignore[arg-type]
    model[0].parametrizations.weight.original.requires_grad_(False)  # type: ignore[union-attr]
    return model


def used(model: nn.Module) -> nn.Module:
    """Return a model after a step of training, with gradients and whatever else it keeps."""
    model.train()
    model(X[:4]).sum().backward()
    return model


@dataclass(frozen=True)
class Kind:
    """A form of model and data.

    Attributes:
        model: Makes the model.
        data: All data sets.
        loss: The loss.
        arguments: Of ``unlearn`` and ``audit``.
        plain: Whether it is the plain classifier in another dress, so that results must be equal to its own.
        absent: Methods that this kind cannot have, with the beginning of the reason.
    """

    model: Callable[[], Any]
    data: Callable[[], dict[str, Any]] = lambda: sets(pair)
    loss: Any = CE
    arguments: dict[str, Any] = field(default_factory=dict)
    plain: bool = True
    absent: dict[str, str] = field(default_factory=dict)


CLASSIFIER = "needs a classifier"
NO_RESET = {"retrain": "cannot be re-initialised", "bad_teacher": "cannot be re-initialised"}
NO_CLASSES = dict.fromkeys(("bad_teacher", "random_label", "boundary_shrink"), CLASSIFIER)

TAKEN: dict[str, Kind] = {
    "lists": Kind(net, lambda: sets(lambda i: [X[i], Y[i]])),
    "named tuples": Kind(net, lambda: sets(lambda i: Named(X[i], Y[i]))),
    "dict samples": Kind(net, lambda: sets(lambda i: {"pixels": X[i], "label": Y[i]})),
    "numpy arrays": Kind(net, lambda: sets(lambda i: (X[i].numpy(), int(Y[i])))),
    "unpacked triples": Kind(
        net, lambda: sets(lambda i: (X[i], Y[i], i)), CE, {"unpack": lambda s: (s[0], s[1])}
    ),
    "by name, with more than it takes": Kind(
        ByName,
        lambda: sets(lambda i: {"pixels": X[i], "mask": torch.ones(WIDTH), "labels": Y[i], "id": i}),
    ),
    "by name, in a pair": Kind(ByName, lambda: sets(lambda i: ({"pixels": X[i]}, Y[i]))),
    "two inputs": Kind(Two, lambda: sets(lambda i: ((X[i, :2], X[i, 2:]), Y[i]))),
    "two inputs and a target": Kind(Two, lambda: sets(lambda i: (X[i, :2], X[i, 2:], Y[i]))),
    "a whole dict": Kind(FromDict, lambda: sets(lambda i: {"a": X[i, :2], "b": X[i, 2:], "y": Y[i]})),
    "tensor data sets": Kind(net, lambda: {k: TensorDataset(X[a:b], Y[a:b]) for k, (a, b) in CUTS.items()}),
    "loaders": Kind(net, lambda: loaders(pair, shuffle=True)),
    "loaders with a collate_fn": Kind(
        net, lambda: loaders(lambda i: {"pixels": X[i], "class": int(Y[i])}, collate_fn=collated)
    ),
    "dict outputs": Kind(
        lambda: Wraps(lambda o: {"logits": o, "hidden": o}), loss=lambda o, y: CE(o["logits"], y)
    ),
    "dict outputs, torch's loss": Kind(lambda: Wraps(lambda o: {"logits": o, "hidden": o})),
    "dataclass outputs": Kind(lambda: Wraps(lambda o: Output(o, o)), loss=lambda o, y: CE(o.logits, y)),
    "tuple outputs": Kind(lambda: Wraps(lambda o: (o, o)), arguments={"logits": lambda o: o[0]}),
    "named tuple outputs": Kind(
        lambda: Wraps(lambda o: Named(o, o)),
        loss=lambda o, y: CE(o.image, y),
        arguments={"logits": lambda o: o.image},
    ),
    "DataParallel": Kind(lambda: nn.DataParallel(net())),
    "after a step of training": Kind(lambda: used(net())),
    "keeps activations": Kind(lambda: used(Stash())),
    "double inputs": Kind(net, lambda: sets(lambda i: (X[i].double(), Y[i].int()))),
    "double weights": Kind(lambda: net().double(), plain=False),
    "tied weights": Kind(Tied, plain=False),
    "adapters": Kind(adapted, plain=False),
    "parametrised": Kind(parametrised, plain=False, absent=NO_RESET),
    "multi-label": Kind(
        net,
        lambda: sets(lambda i: (X[i], (X[i, :CLASSES] > 0).float())),
        nn.BCEWithLogitsLoss(reduction="none"),
        plain=False,
        absent=NO_CLASSES,
    ),
    "regression": Kind(
        lambda: nn.Sequential(nn.Linear(WIDTH, 1)),
        lambda: sets(lambda i: (X[i], X[i, :1].double())),
        nn.MSELoss(reduction="none"),
        plain=False,
        absent=NO_CLASSES,
    ),
    "words": Kind(
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * WIDTH, CLASSES)),
        lambda: sets(lambda i: ((2 * X[i]).long().clamp(-4, 4) + 4, Y[i])),
        plain=False,
        absent={"boundary_shrink": "changes the inputs"},
    ),
}
