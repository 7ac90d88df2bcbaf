# SPDX-License-Identifier: Apache-2.0
"""Refuses data sets and classes of a Python caller that do not fit together, before any work.

Samples are compared by place first (the same index of the same data set, below ``Subset`` and
``ConcatDataset``), which costs nothing, and then by content. That takes one pass over each data set, in which
every sample is loaded once and hashed: less than a single epoch, and 16 bytes are kept of each sample but
those of the retain set, of which nothing is kept. Random augmentations hide equal content from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import ConcatDataset, Subset

from expunge.errors import InputError
from expunge.exact.trainer import isolated_rng
from expunge.methods.values import is_whole
from expunge.tasks.protocol import Batch, Samples, Task

BATCH = 64
PAIRS = (
    ("forget", "retain"),
    ("forget", "validation"),
    ("unseen", "forget"),
    ("unseen", "retain"),
    ("unseen", "validation"),
)
"""Data sets that must be apart."""
Place = tuple[int, int]
"""Identity of a data set and an index in it."""


@dataclass(frozen=True)
class Digests:
    """Digests of the samples of a data set.

    Attributes:
        inputs: Of the inputs alone.
        samples: Of inputs and target.
    """

    inputs: frozenset[bytes]
    samples: frozenset[bytes]


def check_filled(**sets: Samples | None) -> None:
    """Refuse data sets without a sample; None: there is none.

    Raises:
        InputError: It says which.
    """
    for name, data in sets.items():
        if data is None or len(data):
            continue
        if name in ("validation", "unseen"):
            why, advice = "No sample guards and judges nothing.", f"Give samples, or leave {name} out."
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
    """Refuse data sets that share samples.

    The forget set must be apart from the retain set and the validation data, input and target together: a
    sample whose label was corrected may stay. Unseen data must be apart from all others by their inputs.

    Args:
        task: Collates samples.
        forget, retain, validation, unseen: Data sets; None: there is none.

    Raises:
        InputError: It says which sets share how many samples.
    """
    sets = {"forget": forget, "retain": retain, "validation": validation, "unseen": unseen}
    given = {name: data for name, data in sets.items() if data is not None}
    pairs = [(one, other) for one, other in PAIRS if one in given and other in given]
    places = {name: frozenset(_places(data)) for name, data in given.items()}
    for one, other in pairs:
        _refuse(one, other, len(places[one] & places[other]))
    del places
    with isolated_rng():  # a data set may augment by the global generators
        digests = {name: _digests(task, data) for name, data in given.items() if name != "retain"}
        for one, other in pairs:
            if other != "retain":
                _refuse(one, other, _shared(one, digests[one], digests[other]))
        found = dict.fromkeys((one for one, other in pairs if other == "retain"), 0)
        for inputs, sample in _stream(task, retain):
            for one in found:
                known = digests[one]
                found[one] += inputs in known.inputs if one == "unseen" else sample in known.samples
    for one, count in found.items():
        _refuse(one, "retain", count)


def check_classes(
    task: Task, model: nn.Module, forget: Samples, goal: str, classes: object
) -> tuple[int, ...]:
    """Return the class indices to remove, if model and forget set have them.

    Args:
        task: Collates samples and asks the model.
        model: The original; it is not changed.
        forget: The forget set, which must show each of the classes.
        goal: ``class``, or another goal, which takes no classes.
        classes: As the caller gave them.

    Raises:
        InputError: If something else is given than different indices of classes that both have.
    """
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Sequence):
        raise InputError(
            "The classes do not fit.", f"They are {classes!r}.", "Give a list of class indices: classes=[3]."
        )
    if goal != "class":
        if classes:
            raise InputError(
                "Classes are given, and the goal is not to remove one.",
                f"The goal is '{goal}'.",
                "Give goal='class', or leave the classes out.",
            )
        return ()
    if not classes:
        raise InputError("Which class?", "The goal is to remove one.", "Give classes=[index].")
    for index in classes:
        if not is_whole(index, 0):
            raise InputError(
                f"{index!r} is no class index.",
                "Class indices are whole numbers from 0 on.",
                "Give classes=[index].",
            )
    chosen = tuple(int(index) for index in classes)
    if len(set(chosen)) < len(chosen):
        raise InputError("A class is given twice.", f"The classes are {list(chosen)}.", "Give each once.")
    with isolated_rng(), torch.no_grad():
        _check_known(task, model, forget, chosen)
        _check_shown(task, forget, chosen)
    return chosen


def _check_known(task: Task, model: nn.Module, forget: Samples, classes: tuple[int, ...]) -> None:
    """Refuse classes that the model has no output for."""
    found = task.outputs(task.clone(model), task.collate([forget[0]])).get("logits")
    if found is None:
        return
    count = found.shape[1] if found.ndim > 1 else 1
    if max(classes) >= count:
        raise InputError(
            f"The model has no class {max(classes)}.",
            f"It has {count}: 0 to {count - 1}.",
            "Give the index of a class that it has.",
        )


def _check_shown(task: Task, forget: Samples, classes: tuple[int, ...]) -> None:
    """Refuse classes that no sample of the forget set shows."""
    present = shown_classes(task, forget, classes)
    if present is None:
        return
    if missing := [c for c, column in zip(classes, present.T, strict=True) if not column.any()]:
        raise InputError(
            f"The forget set does not show the class {missing[0]}.",
            f"None of its {len(present)} samples has this target.",
            "Give the samples of the class that is to be removed.",
        )


def shown_classes(task: Task, data: Samples, classes: Sequence[int]) -> NDArray[np.bool_] | None:
    """Return for every sample and class (n, C) whether its target names it; None: targets do not say."""
    found = list[NDArray[np.bool_]]()
    for start in range(0, len(data), BATCH):
        batch = task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])
        present = _present(batch, tuple(classes))
        if present is None:
            return None
        found.append(present.numpy())
    return np.concatenate(found) if found else None


def _present(batch: Batch, classes: tuple[int, ...]) -> torch.Tensor | None:
    """Return for every sample and class (B, C) whether the target names it; None: targets of another kind."""
    target = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    if not isinstance(target, torch.Tensor):
        return None
    if target.ndim == 1 and not target.is_floating_point():
        return target[:, None].cpu() == torch.tensor(classes)
    if target.ndim == 2 and target.shape[1] > max(classes):
        return target[:, list(classes)].cpu() > 0.5
    return None


def _refuse(one: str, other: str, count: int) -> None:
    if not count:
        return
    why = {
        "forget": "What stays cannot be forgotten at the same time.",
        "unseen": "What judges must not have been trained on, or tuned by.",
    }
    raise InputError(
        f"{count} of the {one} samples are in the {other} set.",
        why[one] if other != "forget" else "What is judged cannot be its own yardstick.",
        "Take them out of one of the two.",
    )


def _shared(one: str, left: Digests, right: Digests) -> int:
    """Return how many samples are equal; of unseen data the inputs count."""
    return len(left.inputs & right.inputs) if one == "unseen" else len(left.samples & right.samples)


def _digests(task: Task, data: Samples) -> Digests:
    found = list(_stream(task, data))
    return Digests(frozenset(i for i, _ in found), frozenset(s for _, s in found))


def _stream(task: Task, data: Samples) -> Iterator[tuple[bytes, bytes]]:
    """Yield the digests of every sample: of its inputs, and of all of it."""
    for index in range(len(data)):
        batch = task.collate([data[index]])
        inputs = batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 2 else batch
        yield content_digest(inputs), content_digest(batch)


def content_digest(value: object) -> bytes:
    """Return a digest of a value's content: tensors, arrays, numbers, texts, and containers of them.

    A tensor and an array of the same numbers are equal; the order of a mapping's keys does not count.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, value)
    return digest.digest()


def _add(digest: Any, value: object) -> None:
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
            _add(digest, key)
            _add(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"sequence {len(value)} ".encode())
        for entry in value:
            _add(digest, entry)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        digest.update(f"bytes {len(value)} ".encode())
        digest.update(value)
    elif value is None or isinstance(value, (str, bool, int, float, complex)):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)} ".encode())
        digest.update(text)
    elif hasattr(value, "tobytes"):  # a picture
        digest.update(f"{type(value).__name__} {getattr(value, 'size', None)} ".encode())
        digest.update(value.tobytes())
    else:
        digest.update(type(value).__qualname__.encode())
        _add(digest, vars(value) if hasattr(value, "__dict__") else repr(value))


def _places(data: Any) -> Iterator[Place]:
    """Yield where each sample lies, below subsets and concatenations."""
    if isinstance(data, Subset):
        inner = list(_places(data.dataset))
        yield from (inner[int(i)] for i in data.indices)
    elif isinstance(data, ConcatDataset):
        for part in data.datasets:
            yield from _places(part)
    else:
        yield from ((id(data), i) for i in range(len(data)))
