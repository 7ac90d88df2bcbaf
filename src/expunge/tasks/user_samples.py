# SPDX-License-Identifier: Apache-2.0
"""Acceptance of users' data sets: map-style data sets, lists, and ``DataLoader``s of these."""

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
from expunge.tasks.faults import raise_as_input_error
from expunge.tasks.protocol import Samples


class CheckedSamples(Dataset[Any]):
    """A user's data set whose exceptions are raised as InputErrors.

    Attributes:
        inner: The original data set.
    """

    def __init__(self, inner: Samples, name: str) -> None:
        self.inner, self._name, self._count = inner, name, len(inner)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        with raise_as_input_error(
            f"The {self._name} set failed at sample {index}.",
            "Check the data set: data[i] must give a sample for every i below len(data).",
            quote=False,
        ):
            return self.inner[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def take_samples(data: Any, name: str) -> tuple[Samples, Collate | None]:
    """Return a data set, and the ``collate_fn`` of its ``DataLoader`` if it has one.

    Args:
        data: A map-style data set or list, or a ``DataLoader`` of one.
        name: Name of the set in messages: ``forget``, …

    Raises:
        InputError: If ``data`` is of another kind; the message says what to pass.
    """
    collate: Collate | None = None
    if isinstance(data, DataLoader):
        collate, data = data.collate_fn, _dataset_of(data, name)
    if isinstance(data, IterableDataset) or not _is_indexable(data):
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
    with raise_as_input_error(
        f"The {name} set has no usable length.", "Give list(data), or a map-style Dataset."
    ):
        return CheckedSamples(data, name), collate


def common_collate(found: Mapping[str, Collate | None]) -> Collate:
    """Return the collate function that all data sets share.

    Args:
        found: Collate functions by the name of the data set; None: the data set came without one.

    Raises:
        InputError: If they differ.
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
    """Return the data set of a loader, restricted to its sampler's samples, in the data set's order.

    Raises:
        InputError: If the loader repeats or omits samples, or makes its own batches.
    """
    data, sampler = loader.dataset, loader.sampler
    if isinstance(data, IterableDataset):
        return data
    if loader.batch_size is None or type(loader.batch_sampler).__name__ != "BatchSampler":
        raise InputError(
            f"The loader of the {name} set makes its own batches.",
            "It has a batch_sampler, or batch_size=None.",
            "Give its data set: loader.dataset.",
        )
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(data, [int(i) for i in sampler.indices])
    complete = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(data)  # type: ignore[arg-type]
    )
    if not complete:
        raise InputError(
            f"The loader of the {name} set leaves samples out or repeats them.",
            f"Its sampler is a {type(sampler).__name__}; every sample counts once here.",
            "Give its data set (loader.dataset), or a Subset of it.",
        )
    return data


def _is_indexable(data: Any) -> bool:
    if isinstance(data, (str, bytes, Mapping, torch.Tensor)):
        return False
    return all(hasattr(type(data), name) for name in ("__getitem__", "__len__"))


def _same_function(one: Collate, other: Collate) -> bool:
    """Return whether two functions are equal, or have the same code and the same bound values."""
    return one == other or (hasattr(one, "__code__") and _code_and_bindings(one) == _code_and_bindings(other))


def _code_and_bindings(function: Collate) -> tuple[Any, ...]:
    cells = getattr(function, "__closure__", None) or ()
    bound = (*(cell.cell_contents for cell in cells), *(getattr(function, "__defaults__", None) or ()))
    owner = getattr(function, "__self__", None)
    return getattr(function, "__code__", None), id(owner), *(id(value) for value in bound)
