# SPDX-License-Identifier: Apache-2.0
"""Check that enough images have labels, and that images have three channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from expunge.data.label_files import LabelFiles
from expunge.data.types import DatasetConfig, Scan
from expunge.errors import InputError

SUPPORTED_CHANNELS = 3


def check_labels(scan: Scan, counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield warnings about splits without labels.

    Args:
        scan: The scan; used to name the places where labels were expected.
        counts: Result of :func:`expunge.catalog.file_checks.count_labels` for the version to be made.

    Raises:
        InputError: If no image of train has a label file.
    """
    for split, missing in counts["missing"].items():
        if counts["labelled"][split]:
            continue
        example = next((sample.path for sample in scan.samples if sample.split == split), None)
        expected = f" The label of {example} would be {_label_place(scan, example)}." if example else ""
        if counts["empty"][split]:
            yield f"no image of the {split} split has a label: every label file is empty.{expected}"
        elif split == "train":
            raise InputError(
                f"None of the {missing} images of the train split has a label file.",
                f"A detector cannot be trained on background alone.{expected} (In an image's path, the last"
                " folder 'images' becomes 'labels', and the suffix becomes '.txt'.)",
                "Put the label files there, an empty one for background, or correct the data.yaml.",
            )
        else:
            yield f"none of the {missing} images of the {split} split has a label file.{expected}"


def unsupported_channels(config: DatasetConfig) -> str | None:
    """Return a description of a dataset's ``channels`` setting, or None if it stands for three channels."""
    value = config.extra.get("channels")
    try:
        supported = value is None or float(value) == SUPPORTED_CHANNELS
    except (TypeError, ValueError):
        supported = False
    return None if supported else f"'channels: {value}' is set in its data.yaml"


def refuse_channels(config: DatasetConfig, label: str) -> None:
    """Check that a dataset is set to images of three channels.

    Args:
        config: The dataset's configuration.
        label: The dataset version, for the error message.

    Raises:
        InputError: If another number of channels is set.
    """
    if setting := unsupported_channels(config):
        raise InputError(
            f"{label} cannot be trained on with its channels.",
            f"{setting}. Only images of {SUPPORTED_CHANNELS} channels are supported.",
            "To train on them in colour, remove 'channels' from the data.yaml and add the data again.",
        )


def _label_place(scan: Scan, path: str) -> str:
    place, root = LabelFiles(scan.root).plain(path), f"{scan.root}/"
    return place.removeprefix(root)
