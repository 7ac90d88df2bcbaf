# SPDX-License-Identifier: Apache-2.0
"""Where an image's labels lie, and what their rows say: each file read by itself, none changes another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.errors import InputError


def label_path(image: str) -> str:
    """Return the label file that belongs to an image path (POSIX, relative or absolute).

    Ultralytics' rule: the last folder ``images`` becomes ``labels``, the suffix ``.txt``.
    """
    before, found, after = f"/{image}".rpartition("/images/")
    moved = f"{before}/labels/{after}" if found else f"/{image}"
    return moved.rpartition(".")[0][1:] + ".txt"


def read_boxes(text: str, classes: int, where: str, keypoint_values: int = 0) -> NDArray[np.float32]:
    """Return the boxes of one label file.

    Polygons (segment, obb) and keypoint rows keep their enclosing or leading box, row by row, so a file
    with boxes changes nothing for files with polygons. Duplicate rows count once, in file order.

    Args:
        text: The file's content.
        classes: Number of classes.
        where: The file's relative path, for messages.
        keypoint_values: Numbers that follow the box in a pose data set's rows (points times dimensions).

    Returns:
        Array (N, 5): class, x, y, width, height; xywh, normalised to 0–1.

    Raises:
        InputError: If a row is malformed.
    """
    rows: list[tuple[float, ...]] = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = [float(v) for v in fields]
        except ValueError:
            raise _bad(where, number, "it has a field that is no number") from None
        if values[0] != int(values[0]) or not 0 <= values[0] < classes:
            raise _bad(where, number, f"class {fields[0]} is not one of 0–{classes - 1}")
        pose = keypoint_values and len(values) == 5 + keypoint_values
        rows.append((values[0], *_box(values[1:5] if pose else values[1:], where, number)))
    unique = list(dict.fromkeys(rows))
    return np.array(unique, dtype=np.float32).reshape(-1, 5)


def _box(values: list[float], where: str, number: int) -> tuple[float, float, float, float]:
    if len(values) < 4:
        raise _bad(where, number, "it has fewer than four coordinates")
    polygon = len(values) >= 6 and len(values) % 2 == 0
    points = values if polygon else values[:4]
    if min(points) < -0.01 or max(points) > 1.01:
        raise _bad(where, number, "its coordinates are not normalised to 0–1")
    if not polygon:
        x, y, w, h = values[:4]
        return x, y, w, h
    xs, ys = values[0::2], values[1::2]
    left, right = max(min(xs), 0.0), min(max(xs), 1.0)
    top, bottom = max(min(ys), 0.0), min(max(ys), 1.0)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _bad(where: str, number: int, reason: str) -> InputError:
    return InputError(
        f"Line {number} of {where} is not a label row.",
        f"The reason: {reason}.",
        "Correct the file and add the data again.",
    )
