# SPDX-License-Identifier: Apache-2.0
"""Divides a data set for an unlearning: forget, retain, what guards the utility, what judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.data.types import DatasetConfig, Sample
from expunge.errors import InputError
from expunge.exact.hashing import keyed_hash
from expunge.unlearning.selecting import Selected, shown_classes


@dataclass(frozen=True)
class Partition:
    """Rows of a data set by what they are for; no row, and where possible no person, is in two parts.

    Attributes:
        forget, retain: Training samples that go and stay.
        guard: Held-out samples that guard the utility.
        unseen: Held-out samples that judge.
        forget_groups, unseen_groups: The person of each sample; None where nobody is known.
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
    """Divide the rows.

    ``val`` guards and ``test`` judges; where only one of the two is there, people (or samples that concern
    nobody) are divided between both by a keyed hash. Without either, nothing is held out. People who are in
    the training set do not judge: they are not unseen.

    Raises:
        InputError: If no training sample is to be forgotten, or none is left.
    """
    forget = tuple(s for s in samples if s.split == "train" and s.path in selected.paths)
    retain = tuple(s for s in samples if s.split == "train" and s.path not in selected.paths)
    if not forget:
        raise InputError(
            "No training sample is to be forgotten.",
            f"The {len(selected.paths)} named are all of val or test: the model was not trained on them.",
            "Take them out of the data set; the model needs no change.",
        )
    if not retain:
        raise InputError(
            "Nothing would be left to train on.",
            "Every training sample is to be forgotten.",
            "Withdraw the model instead.",
        )
    indices = tuple(config.names.index(name) for name in selected.classes)
    held: dict[str, list[Sample]] = {"val": [], "test": []}
    seen = {s.image_digest for s in (*forget, *retain)}
    for sample in samples:
        gone = sample.path in selected.paths or selected.subjects.intersection(sample.subjects)
        if sample.image_digest in seen:
            continue  # a copy of a training image is not held out
        if sample.split != "train" and not gone:
            held[sample.split].append(sample)
    if indices:
        for split, rows in held.items():
            held[split] = [s for s in rows if not set(indices) & shown_classes(s, config, root)]
    if not held["val"] or not held["test"]:
        both = held["val"] + held["test"]
        guards = {s.path: keyed_hash(seed, "guard", _who(s)) % 2 == 0 for s in both}
        held = {
            "val": [s for s in both if guards[s.path]],
            "test": [s for s in both if not guards[s.path]],
        }
    trained = {subject for s in (*forget, *retain) for subject in s.subjects}
    pictures = {s.image_digest for s in (*forget, *retain)}  # a copy of what was trained on is not unseen
    unseen = tuple(
        s for s in held["test"] if not trained.intersection(s.subjects) and s.image_digest not in pictures
    )
    known = bool(trained)
    return Partition(
        forget,
        retain,
        tuple(held["val"]),
        unseen,
        tuple(_group(s, selected) for s in forget) if known else None,
        tuple(_who(s) for s in unseen) if known else None,
        indices,
        selected.goal,
    )


def _who(sample: Sample) -> str:
    return sample.subjects[0] if sample.subjects else f"\0{sample.image_digest}"


def _group(sample: Sample, selected: Selected) -> str:
    asked = sorted(selected.subjects.intersection(sample.subjects))
    return asked[0] if asked else _who(sample)
