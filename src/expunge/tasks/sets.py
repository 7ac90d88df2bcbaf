# SPDX-License-Identifier: Apache-2.0
"""Takes data sets as users have them: map-style data sets, lists, and ``DataLoader``s of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

from expunge.errors import InputError
from expunge.tasks.batches import Collate
from expunge.tasks.faults import blame
from expunge.tasks.protocol import Samples


class CheckedSamples(Dataset[Any]):
    """A user's data set, whose exceptions become errors for people.

    Attributes:
        inner: The data set as it was given.
    """

    def __init__(self, inner: Samples, name: str) -> None:
        self.inner, self._name, self._count = inner, name, len(inner)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        with blame(
            f"The {self._name} set failed at sample {index}.",
            "Check the data set: data[i] must give a sample for every i below len(data).",
            quote=False,
        ):
            return self.inner[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def take_samples(data: Any, name: str) -> tuple[Samples, Collate | None]:
    """Return a data set, and the function that makes its batches where one was given with it.

    Args:
        data: Anything with a length whose samples can be had by number, or a ``DataLoader`` of such.
        name: As it is called in messages: ``forget``, …

    Raises:
        InputError: If it is something else; it says what to give.
    """
    collate: Collate | None = None
    if isinstance(data, DataLoader):
        collate, data = data.collate_fn, _dataset_of(data, name)
    if isinstance(data, IterableDataset) or not _indexable(data):
        raise InputError(
            f"The {name} set cannot be indexed.",
            f"It is of the type {type(data).__name__}: samples must be had by number, and counted by len().",
            "Give list(data), or a map-style Dataset.",
        )
    if isinstance(data, (tuple, list)) and len(data) > 1 and all(isinstance(p, torch.Tensor) for p in data):
        raise InputError(
            f"The {name} set holds no samples, but {len(data)} tensors.",
            "A data set gives a pair (input, target) for every sample.",
            "Give torch.utils.data.TensorDataset(inputs, targets).",
        )
    with blame(f"The length of the {name} set cannot be told.", "Give list(data), or a map-style Dataset."):
        return CheckedSamples(data, name), collate


def common_collate(found: Mapping[str, Collate | None]) -> Collate:
    """Return the one function that makes all batches.

    Args:
        found: By the name of the data set; None: it came without one.

    Raises:
        InputError: If there are several.
    """
    given = [(name, collate) for name, collate in found.items() if collate is not None]
    for name, collate in given[1:]:
        if not _same_function(collate, given[0][1]):
            raise InputError(
                f"The loaders of {given[0][0]} and {name} make batches in different ways.",
                "Their collate_fn differ, and methods mix the data sets.",
                "Give all loaders the same collate_fn.",
            )
    return given[0][1] if given else default_collate


def _dataset_of(loader: DataLoader[Any], name: str) -> Any:
    """Return the samples that a loader would give, without its order."""
    data, sampler = loader.dataset, loader.sampler
    if isinstance(data, IterableDataset):
        return data
    if loader.batch_size is None or type(loader.batch_sampler).__name__ != "BatchSampler":
        raise InputError(
            f"The loader of the {name} set makes its batches in a way of its own.",
            "It has a batch_sampler, or batch_size=None.",
            "Give its data set: loader.dataset.",
        )
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(data, [int(i) for i in sampler.indices])
    whole = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(data)  # type: ignore[arg-type]
    )
    if not whole:
        raise InputError(
            f"The loader of the {name} set leaves samples out or repeats them.",
            f"Its sampler is a {type(sampler).__name__}; every sample counts once here.",
            "Give its data set (loader.dataset), or a Subset of it.",
        )
    return data


def _indexable(data: Any) -> bool:
    if isinstance(data, (str, bytes, Mapping, torch.Tensor)):
        return False
    return all(hasattr(type(data), name) for name in ("__getitem__", "__len__"))


def _same_function(one: Collate, other: Collate) -> bool:
    """Whether two functions do the same: equal, or the same code with the same things bound to it."""
    return one == other or (hasattr(one, "__code__") and _parts(one) == _parts(other))


def _parts(function: Collate) -> tuple[Any, ...]:
    cells = getattr(function, "__closure__", None) or ()
    bound = (*(cell.cell_contents for cell in cells), *(getattr(function, "__defaults__", None) or ()))
    owner = getattr(function, "__self__", None)
    return getattr(function, "__code__", None), id(owner), *(id(value) for value in bound)
