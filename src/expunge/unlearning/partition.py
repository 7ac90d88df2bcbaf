# SPDX-License-Identifier: Apache-2.0
"""Divide the rows of a dataset into forget set, retain set, guard data and unseen data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.data.types import DatasetConfig, Sample
from expunge.errors import InputError
from expunge.storage.hashing import keyed_hash
from expunge.unlearning.selecting import Selected, shown_classes


@dataclass(frozen=True)
class Partition:
    """Rows of a dataset by use. No row, and where possible no person, is in two parts.

    Attributes:
        forget, retain: Training samples to erase and to keep.
        guard: Held-out samples for the utility guard.
        unseen: Held-out samples for the verdict.
        forget_groups, unseen_groups: The person of each sample; None: no sample names a person.
        classes: Indices of the classes to remove.
        goal: ``sample``, ``subject`` or ``class``.
    """

    forget: tuple[Sample, ...]
    retain: tuple[Sample, ...]
    guard: tuple[Sample, ...]
    unseen: tuple[Sample, ...]
    forget_groups: tuple[str, ...] | None
    unseen_groups: tuple[str, ...] | None
    classes: tuple[int, ...]
    goal: str


def partition(
    samples: Sequence[Sample], config: DatasetConfig, root: Path, selected: Selected, seed: int
) -> Partition:
    """Return the rows of a dataset by use.

    ``val`` is the guard data and ``test`` the unseen data. If only one of the two exists, people (or samples
    without a person) are divided between both by a keyed hash. Without either, nothing is held out. People
    in the training set, and copies of training images, are not unseen.

    Raises:
        InputError: If no training sample is to be forgotten, or none is left.
    """
    forget = tuple(s for s in samples if s.split == "train" and s.path in selected.paths)
    retain = tuple(s for s in samples if s.split == "train" and s.path not in selected.paths)
    if not forget:
        raise InputError(
            "No training sample is to be forgotten.",
            f"The {len(selected.paths)} named are all of val or test: the model was not trained on them.",
            "Take them out of the dataset; the model needs no change.",
        )
    if not retain:
        raise InputError(
            "Nothing would be left to train on.",
            "Every training sample is to be forgotten.",
            "Withdraw the model instead.",
        )
    indices = tuple(config.names.index(name) for name in selected.classes)
    held: dict[str, list[Sample]] = {"val": [], "test": []}
    trained_images = {s.image_digest for s in (*forget, *retain)}
    for sample in samples:
        erased = sample.path in selected.paths or selected.subjects.intersection(sample.subjects)
        if sample.image_digest in trained_images:
            continue  # a copy of a training image is not held out
        if sample.split != "train" and not erased:
            held[sample.split].append(sample)
    if indices:
        for split, rows in held.items():
            held[split] = [s for s in rows if not set(indices) & shown_classes(s, config, root)]
    if not held["val"] or not held["test"]:
        both = held["val"] + held["test"]
        guards = {s.path: keyed_hash(seed, "guard", _unit(s)) % 2 == 0 for s in both}
        held = {
            "val": [s for s in both if guards[s.path]],
            "test": [s for s in both if not guards[s.path]],
        }
    trained_people = {subject for s in (*forget, *retain) for subject in s.subjects}
    unseen = tuple(s for s in held["test"] if not trained_people.intersection(s.subjects))
    known = bool(trained_people)
    return Partition(
        forget,
        retain,
        tuple(held["val"]),
        unseen,
        tuple(_forget_unit(s, selected) for s in forget) if known else None,
        tuple(_unit(s) for s in unseen) if known else None,
        indices,
        selected.goal,
    )


def _unit(sample: Sample) -> str:
    """Return the person of a sample, or the sample itself if it names nobody."""
    return sample.subjects[0] if sample.subjects else f"\0{sample.image_digest}"


def _forget_unit(sample: Sample, selected: Selected) -> str:
    """Return the erased person of a sample, if any."""
    erased = sorted(selected.subjects.intersection(sample.subjects))
    return erased[0] if erased else _unit(sample)
