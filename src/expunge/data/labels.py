# SPDX-License-Identifier: Apache-2.0
"""Parse label files with the same results as Ultralytics' reader, each file independently of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.errors import InputError

BOX_COLUMNS = 5
LOWEST, HIGHEST = float(np.float32(-0.01)), float(np.float32(1.01))  # Ultralytics' tolerance of 1 %
Row = tuple[int, list[str]]  # line number, fields


@dataclass(frozen=True)
class LabelRows:
    """The rows of a label file.

    Attributes:
        boxes: Array (N, 5): class, x, y, width, height; xywh, normalised to 0–1.
        duplicates: Number of duplicate rows dropped.
    """

    boxes: NDArray[np.float32]
    duplicates: int = 0


class BadLabel(ValueError):
    """A label file that Ultralytics would not use.

    Attributes:
        line: Line number, or None if the error concerns the whole file.
        reason: The reason, as a sentence.
    """

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


def label_path(image: str) -> str:
    """Return the path of the label file of an image (POSIX path, relative or absolute).

    As in Ultralytics, the last folder ``images`` becomes ``labels`` and the suffix becomes ``.txt``.
    """
    before, found, after = f"/{image}".rpartition("/images/")
    moved = f"{before}/labels/{after}" if found else f"/{image}"
    return moved.rpartition(".")[0][1:] + ".txt"


def decode_label(content: bytes) -> str:
    """Return the text of a label file.

    Raises:
        BadLabel: If it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadLabel(None, f"It is not a text file in UTF-8 ({error.reason}).") from error


def parse_label(text: str, classes: int, keypoint_values: int = 0) -> LabelRows:
    """Return the boxes of a label file as Ultralytics reads it for detection.

    A file holds boxes or polygons (segments, oriented boxes). Polygons are replaced by their enclosing boxes.
    Numbers are 32-bit floats. Duplicates are dropped, and the other rows are then sorted, as in Ultralytics.

    Args:
        text: Content of the file.
        classes: Number of classes.
        keypoint_values: Number of keypoint values after the box in pose datasets (points times dimensions).

    Raises:
        BadLabel: If Ultralytics would leave out the image because of this file.
    """
    rows = [(n, fields) for n, line in enumerate(text.splitlines(), 1) if (fields := line.split())]
    if not rows:
        return LabelRows(np.zeros((0, BOX_COLUMNS), np.float32))
    if keypoint_values:
        pose = BOX_COLUMNS + keypoint_values
        rows = [(n, fields[:BOX_COLUMNS] if len(fields) == pose else fields) for n, fields in rows]
    polygons: list[NDArray[np.float32]] = []
    if any(len(fields) > BOX_COLUMNS + 1 for _, fields in rows):
        boxes, polygons = _read_polygons(rows)
    else:
        boxes = _read_boxes(rows)
    _check_values(boxes, rows, classes)
    kept = _distinct(boxes, polygons)
    duplicates = len(boxes) - len(kept)
    return LabelRows(boxes[kept] if duplicates else boxes, duplicates)


def read_boxes(text: str, classes: int, where: str, keypoint_values: int = 0) -> NDArray[np.float32]:
    """Return the boxes of a label file, as :func:`parse_label` does.

    Args:
        text: Content of the file.
        classes: Number of classes.
        where: Relative path of the file, for error messages.
        keypoint_values: Number of keypoint values after the box in pose datasets (points times dimensions).

    Returns:
        Array (N, 5): class, x, y, width, height; xywh, normalised to 0–1.

    Raises:
        InputError: If a row is malformed.
    """
    try:
        return parse_label(text, classes, keypoint_values).boxes
    except BadLabel as error:
        line = f"Line {error.line} of {where}" if error.line else where
        raise InputError(
            f"{line} is not a label row.",
            error.reason,
            "Correct the file and add the data again.",
        ) from error


def _read_boxes(rows: Sequence[Row]) -> NDArray[np.float32]:
    for number, fields in rows:
        if len(fields) != BOX_COLUMNS:
            raise BadLabel(number, f"It has {len(fields)} columns; a box has {BOX_COLUMNS}.")
    return _numbers(rows).reshape(-1, BOX_COLUMNS)


def _read_polygons(
    rows: Sequence[Row],
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return the enclosing boxes (N, 5) and the points (K, 2) of each row."""
    for number, fields in rows:
        if len(fields) == BOX_COLUMNS:
            raise BadLabel(number, "It is a box, and other rows of the file are polygons.")
        if len(fields) % 2 == 0 or len(fields) == 1:
            raise BadLabel(
                number, f"It has {len(fields)} columns; a polygon has a class and pairs of coordinates."
            )
    polygons, boxes = [], np.zeros((len(rows), BOX_COLUMNS), np.float32)
    with np.errstate(all="ignore"):
        for box, row in zip(boxes, rows, strict=True):
            values = _numbers([row])
            points = values[1:].reshape(-1, 2)
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            box[:] = values[0], (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
            polygons.append(points)
    return boxes, polygons


def _numbers(rows: Sequence[Row]) -> NDArray[np.float32]:
    """Return all fields as 32-bit floats, converted by numpy as Ultralytics does."""
    try:
        return np.array([field for _, fields in rows for field in fields], dtype=np.float32)
    except ValueError:
        for number, fields in rows:
            for field in fields:
                try:
                    np.array([field], dtype=np.float32)
                except ValueError:
                    raise BadLabel(number, f"{field!r} is not a number.") from None
        raise


def _check_values(boxes: NDArray[np.float32], rows: Sequence[Row], classes: int) -> None:
    for (number, fields), (index, *place) in zip(rows, boxes.tolist(), strict=True):
        if not 0 <= index < classes or index != int(index):  # the first is true for NaN
            reason = f"{fields[0]!r} is not a class; classes are whole numbers from 0 to {classes - 1}."
            raise BadLabel(number, reason)
        if not all(LOWEST <= value <= HIGHEST for value in place):
            raise BadLabel(number, "Its coordinates are not fractions of the image's size, from 0 to 1.")
        if min(place[2:]) < 0:
            raise BadLabel(number, "Its width or height is negative.")


def _distinct(boxes: NDArray[np.float32], polygons: Sequence[NDArray[np.float32]]) -> NDArray[np.intp]:
    """Return the positions of the distinct rows, in sorted order if polygons or boxes repeat."""
    _, kept = np.unique(boxes, axis=0, return_index=True)
    if len(kept) < len(boxes) and polygons:  # distinct polygons may share a class and a box
        keys = [c.tobytes() + p.tobytes() for c, p in zip(boxes[:, 0], polygons, strict=True)]
        _, kept = np.unique(np.array(keys, dtype=object), return_index=True)
    return kept
