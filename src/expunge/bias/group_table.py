# SPDX-License-Identifier: Apache-2.0
"""Read a separate table of groups: by sample, by subject, by pair of both, or by box."""

from __future__ import annotations

import csv
from pathlib import Path

from expunge.bias.groups import Attributes
from expunge.errors import InputError
from expunge.storage.user_files import open_text

KEYS = (("sample", "subject"), ("sample", "box"), ("sample",), ("subject",))


def read_groups(path: Path) -> Attributes:
    """Return the attributes in a CSV file.

    Its header starts with ``sample``, ``subject``, ``sample,subject`` or ``sample,box``, followed by the
    columns. ``box`` is the box's place, from 1, in the sample's label file. An empty field means no value.
    Messages name the line, never a value.

    Raises:
        InputError: If it cannot be read, has a wrong header, or has two rows for one key.
    """
    try:
        with open_text(path) as file:
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            keys = next((k for k in KEYS if tuple(header[: len(k)]) == k), None)
            columns = header[len(keys) :] if keys else []
            if not keys or not columns or "" in header or len(set(header)) != len(header):
                raise InputError(
                    f"{path} has the wrong header.",
                    "It starts with sample, subject, sample,subject or sample,box, and the columns follow.",
                    "Correct the header.",
                )
            found: dict[tuple[str, ...], dict[str, str]] = {}
            for row in rows:
                if row:
                    _add(found, row, keys, columns, f"{path}, line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read.", type(error).__name__, "Give a CSV file in UTF-8."
        ) from error
    if not found:
        raise InputError(f"{path} is empty.", "It has a header and no rows.", "Add rows.")
    named = tuple(columns)
    if keys == ("sample", "subject"):
        return Attributes(named, pairs={(k[0], k[1]): v for k, v in found.items()})
    if keys == ("sample", "box"):
        return Attributes(named, boxes={(k[0], int(k[1])): v for k, v in found.items()})
    single = {k[0]: v for k, v in found.items()}
    return Attributes(named, samples=single) if keys == ("sample",) else Attributes(named, subjects=single)


def _add(
    found: dict[tuple[str, ...], dict[str, str]],
    row: list[str],
    keys: tuple[str, ...],
    columns: list[str],
    where: str,
) -> None:
    if len(row) != len(keys) + len(columns):
        raise InputError(
            f"{where}: {len(row)} columns.",
            f"The header has {len(keys) + len(columns)}.",
            "Correct the row.",
        )
    key = tuple(
        field.removeprefix("./") if name == "sample" else field.strip()
        for name, field in zip(keys, row, strict=False)
    )
    if "" in key:
        raise InputError(f"{where}: the key is empty.", "", "Correct or remove the row.")
    if "box" in keys:
        if not (key[1].isascii() and key[1].isdigit() and 1 <= len(key[1]) <= 9 and int(key[1])):
            raise InputError(f"{where}: the box is not a number.", "Boxes count from 1.", "Correct the row.")
        key = (key[0], str(int(key[1])))
    if key in found:
        raise InputError(f"{where}: the same key a second time.", "Each has one row.", "Remove one of them.")
    values = (field.strip() for field in row[len(keys) :])
    found[key] = {c: v for c, v in zip(columns, values, strict=True) if v}
