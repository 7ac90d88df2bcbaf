# SPDX-License-Identifier: Apache-2.0
"""Judges how many pictures have labels: a detector learns nothing from background alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from expunge.data.label_places import LabelPlaces
from expunge.data.types import DatasetConfig, Scan
from expunge.errors import InputError

SUPPORTED_CHANNELS = 3


def check_labels(scan: Scan, counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield warnings about splits without labels.

    Args:
        scan: What was read, to say where labels were looked for.
        counts: As of :func:`expunge.catalog.checked.count_labels`, of the version that would be made.

    Raises:
        InputError: If no image of train has a label file.
    """
    for split, missing in counts["missing"].items():
        if counts["labelled"][split]:
            continue
        example = next((sample.path for sample in scan.samples if sample.split == split), None)
        looked = f" The label of {example} would be {_place(scan, example)}." if example else ""
        if counts["empty"][split]:
            yield f"no image of the {split} split has a label: every label file is empty.{looked}"
        elif split == "train":
            raise InputError(
                f"None of the {missing} images of the train split has a label file.",
                f"A detector cannot be trained on background alone.{looked} (The last folder 'images' on the"
                " way becomes 'labels', and the suffix '.txt'.)",
                "Put the label files there, an empty one for background, or correct the data.yaml.",
            )
        else:
            yield f"none of the {missing} images of the {split} split has a label file.{looked}"


def unsupported_channels(config: DatasetConfig) -> str | None:
    """Return what ``channels`` of a dataset is, unless pictures of three channels are meant."""
    value = config.extra.get("channels")
    try:
        fits = value is None or float(value) == SUPPORTED_CHANNELS
    except (TypeError, ValueError):
        fits = False
    return None if fits else f"'channels: {value}' is set in its data.yaml"


def refuse_channels(config: DatasetConfig, label: str) -> None:
    """Raise an error if a dataset asks for pictures of other than three channels."""
    if found := unsupported_channels(config):
        raise InputError(
            f"{label} cannot be trained on with its channels.",
            f"{found}. Only pictures of {SUPPORTED_CHANNELS} channels are supported.",
            "To train on them in colour, take 'channels' out of the data.yaml and add the data again.",
        )


def _place(scan: Scan, path: str) -> str:
    place, root = LabelPlaces(scan.root).plain(path), f"{scan.root}/"
    return place.removeprefix(root)
