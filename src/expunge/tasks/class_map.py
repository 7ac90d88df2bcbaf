# SPDX-License-Identifier: Apache-2.0
"""Matches the classes of a data set with those of a model, by the settings of its training.

``single_cls`` made one class of all, ``classes`` left labels out, and a classifier knows the classes of
``train`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.data.types import DatasetConfig, Sample
from expunge.errors import InputError

if TYPE_CHECKING:
    from expunge.tasks.yolo import Opened


def class_map(opened: Opened, config: DatasetConfig) -> tuple[int | None, ...] | None:
    """Return the model's index for each class of a data set, None for a class whose labels it never saw.

    Returns:
        None where classes are matched by name alone.
    """
    single, chosen = is_single_class(opened), chosen_classes(opened)
    if config.kind != "yolo" or not (single or chosen is not None):
        return None
    index = {name: i for i, name in enumerate(opened.names)}
    found = [0 if single else index.get(name) for name in config.names]
    return tuple(own if chosen is None or i in chosen else None for i, own in enumerate(found))


def is_single_class(opened: Opened) -> bool:
    """Say whether the training made one class of all (``single_cls``)."""
    return bool(opened.train_args.get("single_cls")) and len(opened.names) == 1


def chosen_classes(opened: Opened) -> frozenset[int] | None:
    """Return the class indices whose labels the training used (``classes``); None: all."""
    value = opened.train_args.get("classes")
    if opened.task == "classify" or value is None or isinstance(value, (bool, str)):
        return None
    return frozenset(int(i) for i in (value if isinstance(value, (list, tuple)) else [value]))


def known_samples(opened: Opened, config: DatasetConfig, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples without those held out whose class a classifier does not know."""
    if config.kind != "folders":
        return list(samples)
    return [s for s in samples if s.split == "train" or s.class_name in opened.names]


def check_fits(opened: Opened, config: DatasetConfig, samples: Sequence[Sample]) -> None:
    """Refuse a model and a data set that do not belong together.

    Args:
        opened: The model.
        config: What the labels of the data set mean.
        samples: The samples whose classes the model must know.

    Raises:
        InputError: With what differs.
    """
    kind = "folders" if opened.task == "classify" else "yolo"
    if config.kind != kind:
        raise InputError(
            f"The model is for '{opened.task}', which this data set is not made for.",
            "Detection needs a data.yaml with boxes, classification a folder per class.",
            "Choose the data set that the model was trained on.",
        )
    if kind == "folders":
        ours = {sample.class_name for sample in samples if sample.class_name is not None}
    else:
        ours = set[str]() if is_single_class(opened) else set(config.names)
    unknown = sorted(ours - set(opened.names))
    if unknown:
        names = ", ".join(opened.names[:5]) + (" …" if len(opened.names) > 5 else "")
        raise InputError(
            f"The model does not know the class {unknown[0]!r}.",
            f"The data set has {len(unknown)} class(es) that it was not trained for; it knows {names}.",
            "Choose the data set that the model was trained on, with the class names of then.",
        )


def class_indices(opened: Opened, config: DatasetConfig, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the model's indices of some classes of the data set.

    Raises:
        InputError: If the model cannot tell one of them from the others, or never saw its labels.
    """
    if classes and is_single_class(opened):
        raise InputError(
            f"The model cannot forget the class {classes[0]!r} alone.",
            "It was trained with single_cls: all classes are one to it.",
            "Name samples or subjects instead.",
        )
    found = class_map(opened, config)
    indices = {name: i for i, name in enumerate(opened.names)}
    for name in classes:
        if name not in indices or (found is not None and found[config.names.index(name)] is None):
            raise InputError(
                f"The model was not trained on labels of the class {name!r}.",
                "Its training record names other classes.",
                "Choose a class that it was trained on, or name samples or subjects.",
            )
    return tuple(indices[name] for name in classes)


def settings_notes(opened: Opened, config: DatasetConfig, samples: Sequence[Sample]) -> list[str]:
    """Return what the training settings on record mean for the samples, for people to read."""
    notes = []
    if is_single_class(opened):
        notes.append("single_cls is on record: all labels count as one class.")
    chosen = chosen_classes(opened)
    if chosen is not None:
        names = ", ".join(config.names[i] for i in sorted(chosen) if i < len(config.names))
        notes.append(f"classes is on record: only labels of {names or 'no class'} count.")
    fraction = opened.train_args.get("fraction")
    if isinstance(fraction, (int, float)) and not isinstance(fraction, bool) and fraction != 1.0:
        notes.append(
            f"fraction={fraction} is on record: the training used a part of the files. Which ones is not"
            " known for sure, so the model counts as having seen all of train."
        )
    left = len(samples) - len(known_samples(opened, config, samples))
    if left:
        notes.append(
            f"{left} held-out images are of classes that the model does not know; they are not used."
        )
    return notes
