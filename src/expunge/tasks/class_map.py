# SPDX-License-Identifier: Apache-2.0
"""Mapping between the classes of a data set and those of a model, from the model's training settings.

``single_cls`` merges all classes into one, ``classes`` drops the labels of all others, and a classifier knows
only the classes of ``train``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.data.types import DatasetConfig, Sample
from expunge.errors import InputError

if TYPE_CHECKING:
    from expunge.tasks.loaded_model import LoadedModel


def class_map(loaded: LoadedModel, config: DatasetConfig) -> tuple[int | None, ...] | None:
    """Return the model's class index for each class of a data set.

    Returns:
        The indices, None for a class whose labels the model never saw. None instead of a tuple where classes
        are matched by name alone.
    """
    single, chosen = is_single_class(loaded), chosen_classes(loaded)
    if config.kind != "yolo" or not (single or chosen is not None):
        return None
    index = {name: i for i, name in enumerate(loaded.names)}
    indices = [0 if single else index.get(name) for name in config.names]
    return tuple(target if chosen is None or i in chosen else None for i, target in enumerate(indices))


def is_single_class(loaded: LoadedModel) -> bool:
    """Return whether the model was trained with ``single_cls``, which merges all classes into one."""
    return bool(loaded.train_args.get("single_cls")) and len(loaded.names) == 1


def chosen_classes(loaded: LoadedModel) -> frozenset[int] | None:
    """Return the class indices to which the training was restricted (``classes``); None: all."""
    value = loaded.train_args.get("classes")
    if loaded.task == "classify" or value is None or isinstance(value, (bool, str)):
        return None
    return frozenset(int(i) for i in (value if isinstance(value, (list, tuple)) else [value]))


def known_samples(loaded: LoadedModel, config: DatasetConfig, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples without the held-out ones whose class a classifier does not know."""
    if config.kind != "folders":
        return list(samples)
    return [s for s in samples if s.split == "train" or s.class_name in loaded.names]


def check_fits(loaded: LoadedModel, config: DatasetConfig, samples: Sequence[Sample]) -> None:
    """Check that a model and a data set belong together.

    Args:
        loaded: The model.
        config: The data set's configuration.
        samples: Samples whose classes the model must know.

    Raises:
        InputError: If the task differs, or the model does not know a class.
    """
    kind = "folders" if loaded.task == "classify" else "yolo"
    if config.kind != kind:
        raise InputError(
            f"The model is for '{loaded.task}', which this data set is not made for.",
            "Detection needs a data.yaml with boxes, classification a folder per class.",
            "Choose the data set that the model was trained on.",
        )
    if kind == "folders":
        class_names = {sample.class_name for sample in samples if sample.class_name is not None}
    else:
        class_names = set[str]() if is_single_class(loaded) else set(config.names)
    unknown = sorted(class_names - set(loaded.names))
    if unknown:
        names = ", ".join(loaded.names[:5]) + (" …" if len(loaded.names) > 5 else "")
        raise InputError(
            f"The model does not know the class {unknown[0]!r}.",
            f"The data set has {len(unknown)} class(es) that it was not trained for; it knows {names}.",
            "Choose the data set that the model was trained on, with the class names of then.",
        )


def class_indices(loaded: LoadedModel, config: DatasetConfig, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the model's indices of some classes of the data set.

    Raises:
        InputError: If the model does not distinguish one of them, or never saw its labels.
    """
    if classes and is_single_class(loaded):
        raise InputError(
            f"The model cannot forget the class {classes[0]!r} alone.",
            "It was trained with single_cls: all classes are one to it.",
            "Name samples or subjects instead.",
        )
    mapping = class_map(loaded, config)
    indices = {name: i for i, name in enumerate(loaded.names)}
    for name in classes:
        if name not in indices or (mapping is not None and mapping[config.names.index(name)] is None):
            raise InputError(
                f"The model was not trained on labels of the class {name!r}.",
                "Its training record names other classes.",
                "Choose a class that it was trained on, or name samples or subjects.",
            )
    return tuple(indices[name] for name in classes)


def settings_notes(loaded: LoadedModel, config: DatasetConfig, samples: Sequence[Sample]) -> list[str]:
    """Return notes for the user on recorded training settings that affect which samples are used."""
    notes = []
    if is_single_class(loaded):
        notes.append("single_cls is on record: all labels count as one class.")
    chosen = chosen_classes(loaded)
    if chosen is not None:
        names = ", ".join(config.names[i] for i in sorted(chosen) if i < len(config.names))
        notes.append(f"classes is on record: only labels of {names or 'no class'} count.")
    fraction = loaded.train_args.get("fraction")
    if isinstance(fraction, (int, float)) and not isinstance(fraction, bool) and fraction != 1.0:
        notes.append(
            f"fraction={fraction} is on record: the training used a part of the files. Which ones is not"
            " known for sure, so the model counts as having seen all of train."
        )
    unknown = len(samples) - len(known_samples(loaded, config, samples))
    if unknown:
        notes.append(
            f"{unknown} held-out images are of classes that the model does not know; they are not used."
        )
    return notes
