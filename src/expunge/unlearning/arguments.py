# SPDX-License-Identifier: Apache-2.0
"""Check the datasets and classes of a Python caller before any work.

Samples are first compared by location: the same index of the same dataset, below ``Subset`` and
``ConcatDataset``. They are then compared by content, in one pass that loads and hashes each sample once. Of
each sample 16 bytes are kept, of the retain set nothing. Random augmentations hide equal content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Subset

from expunge.errors import InputError
from expunge.methods.values import is_whole
from expunge.tasks.protocol import Samples, Task
from expunge.tasks.targets import classes_in_targets
from expunge.training.random_state import isolated_rng

PAIRS = (
    ("forget", "retain"),
    ("forget", "validation"),
    ("unseen", "forget"),
    ("unseen", "retain"),
    ("unseen", "validation"),
)
"""Pairs of datasets that must not share samples."""
Location = tuple[int, int]
"""Identity of a dataset and an index in it."""


@dataclass(frozen=True)
class Digests:
    """Digests of the samples of a dataset.

    Attributes:
        inputs: Digests of the inputs alone.
        samples: Digests of inputs and target together.
    """

    inputs: frozenset[bytes]
    samples: frozenset[bytes]


def check_filled(**sets: Samples | None) -> None:
    """Raise InputError if a dataset is given and empty.

    Raises:
        InputError: With the name of the dataset.
    """
    for name, data in sets.items():
        if data is None or len(data):
            continue
        if name in ("validation", "unseen"):
            why, advice = "Nothing can be measured on it.", f"Give samples, or leave {name} out."
        elif name == "forget":
            why, advice = "Nothing would be forgotten.", "Give samples."
        else:
            why = "A model without any data left cannot be kept useful."
            advice = "Withdraw the model instead."
        raise InputError(f"The {name} set is empty.", why, advice)


def check_apart(
    task: Task,
    forget: Samples,
    retain: Samples,
    *,
    validation: Samples | None = None,
    unseen: Samples | None = None,
) -> None:
    """Raise InputError if datasets share samples.

    A sample of the forget set must not be in the retain set or the validation data with the same target; a
    copy with a corrected label may stay. An input of the unseen data must not be in any other set.

    Args:
        task: Collates samples.
        forget, retain, validation, unseen: Datasets; None: not given.

    Raises:
        InputError: With the names of the sets and the number of shared samples.
    """
    sets = {"forget": forget, "retain": retain, "validation": validation, "unseen": unseen}
    given = {name: data for name, data in sets.items() if data is not None}
    pairs = [(one, other) for one, other in PAIRS if one in given and other in given]
    locations = {name: frozenset(_locations(data)) for name, data in given.items()}
    for one, other in pairs:
        _refuse_shared(one, other, len(locations[one] & locations[other]))
    del locations
    with isolated_rng():  # a dataset may augment with the global generators
        digests = {name: _digests(task, data) for name, data in given.items() if name != "retain"}
        for one, other in pairs:
            if other != "retain":
                _refuse_shared(one, other, _count_shared(one, digests[one], digests[other]))
        counts = dict.fromkeys((one for one, other in pairs if other == "retain"), 0)
        for inputs, sample in _sample_digests(task, retain):
            for one in counts:
                known = digests[one]
                counts[one] += inputs in known.inputs if one == "unseen" else sample in known.samples
    for one, count in counts.items():
        _refuse_shared(one, "retain", count)


def check_classes(
    task: Task, model: nn.Module, forget: Samples, goal: str, classes: object
) -> tuple[int, ...]:
    """Return the class indices to remove, after checking them against the model and the forget set.

    Args:
        task: Collates samples and runs the model.
        model: The original; it is not changed.
        forget: The forget set, which must contain each of the classes.
        goal: ``class``; every other goal takes no classes.
        classes: The caller's value.

    Raises:
        InputError: If the value is not a list of different class indices, or the model or the forget set does
            not have one of the classes.
    """
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Sequence):
        raise InputError(
            "The classes do not fit.", f"They are {classes!r}.", "Give a list of class indices: classes=[3]."
        )
    if goal != "class":
        if classes:
            raise InputError(
                "Classes are given, but the goal is not to remove one.",
                f"The goal is '{goal}'.",
                "Give goal='class', or leave the classes out.",
            )
        return ()
    if not classes:
        raise InputError("No class is given.", "The goal is to remove one.", "Give classes=[index].")
    for index in classes:
        if not is_whole(index, 0):
            raise InputError(
                f"{index!r} is not a class index.",
                "Class indices are whole numbers from 0 on.",
                "Give classes=[index].",
            )
    chosen = tuple(int(index) for index in classes)
    if len(set(chosen)) < len(chosen):
        raise InputError("A class is given twice.", f"The classes are {list(chosen)}.", "Give each once.")
    with isolated_rng(), torch.no_grad():
        _check_model_classes(task, model, forget, chosen)
        _check_present(task, forget, chosen)
    return chosen


def _check_model_classes(task: Task, model: nn.Module, forget: Samples, classes: tuple[int, ...]) -> None:
    """Raise InputError if the model has no output for a class."""
    logits = task.outputs(task.clone(model), task.collate([forget[0]])).get("logits")
    if logits is None:
        return
    count = logits.shape[1] if logits.ndim > 1 else 1
    if max(classes) >= count:
        raise InputError(
            f"The model has no class {max(classes)}.",
            f"It has {count}: 0 to {count - 1}.",
            "Give the index of a class that it has.",
        )


def _check_present(task: Task, forget: Samples, classes: tuple[int, ...]) -> None:
    """Raise InputError if no sample of the forget set has one of the classes."""
    present = classes_in_targets(task, forget, classes)
    if present is None:
        return
    if missing := [c for c, column in zip(classes, present.T, strict=True) if not column.any()]:
        raise InputError(
            f"The forget set does not contain the class {missing[0]}.",
            f"None of its {len(present)} samples has this target.",
            "Give the samples of the class to remove.",
        )


def _refuse_shared(one: str, other: str, count: int) -> None:
    """Raise InputError if two sets share samples."""
    if not count:
        return
    why = {
        "forget": "A sample cannot be kept and forgotten at the same time.",
        "unseen": "The verdict needs data that was not used for training or tuning.",
    }
    raise InputError(
        f"{count} of the {one} samples are in the {other} set.",
        why[one] if other != "forget" else "The forget set would be compared with itself.",
        "Take them out of one of the two.",
    )


def _count_shared(one: str, left: Digests, right: Digests) -> int:
    """Return the number of equal samples; unseen data is compared by inputs alone."""
    return len(left.inputs & right.inputs) if one == "unseen" else len(left.samples & right.samples)


def _digests(task: Task, data: Samples) -> Digests:
    pairs = list(_sample_digests(task, data))
    return Digests(frozenset(i for i, _ in pairs), frozenset(s for _, s in pairs))


def _sample_digests(task: Task, data: Samples) -> Iterator[tuple[bytes, bytes]]:
    """Yield two digests of each sample: of its inputs, and of inputs and target."""
    for index in range(len(data)):
        batch = task.collate([data[index]])
        inputs = batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 2 else batch
        yield content_digest(inputs), content_digest(batch)


def content_digest(value: object) -> bytes:
    """Return a digest of a value: tensors, arrays, numbers, strings, and containers of them.

    A tensor and an array of the same numbers give the same digest; the order of a mapping's keys is ignored.
    """
    digest = hashlib.blake2b(digest_size=16)
    _update(digest, value)
    return digest.digest()


def _update(digest: Any, value: object) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous()
        shape, raw = tuple(value.shape), value.reshape(-1).view(torch.uint8).numpy()
        digest.update(f"array {str(value.dtype).removeprefix('torch.')} {shape} ".encode())
        digest.update(raw)
    elif isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value, order="C")
        digest.update(f"array {array.dtype.name} {array.shape} ".encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for key in sorted(value, key=repr):
            _update(digest, key)
            _update(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"sequence {len(value)} ".encode())
        for entry in value:
            _update(digest, entry)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        digest.update(f"bytes {len(value)} ".encode())
        digest.update(value)
    elif value is None or isinstance(value, (str, bool, int, float, complex)):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)} ".encode())
        digest.update(text)
    elif hasattr(value, "tobytes"):  # a PIL image
        digest.update(f"{type(value).__name__} {getattr(value, 'size', None)} ".encode())
        digest.update(value.tobytes())
    else:
        digest.update(type(value).__qualname__.encode())
        _update(digest, vars(value) if hasattr(value, "__dict__") else repr(value))


def _locations(data: Any) -> Iterator[Location]:
    """Yield the location of each sample, below subsets and concatenations."""
    if isinstance(data, Subset):
        inner = list(_locations(data.dataset))
        yield from (inner[int(i)] for i in data.indices)
    elif isinstance(data, ConcatDataset):
        for part in data.datasets:
            yield from _locations(part)
    else:
        yield from ((id(data), i) for i in range(len(data)))
