# SPDX-License-Identifier: Apache-2.0
"""Reads what commands are given to select, and to set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expunge.errors import InputError


def lines(path: Path | None) -> tuple[str, ...]:
    """Return the lines of a list of ids or paths.

    Raises:
        InputError: If it cannot be read, or is empty.
    """
    if path is None:
        return ()
    try:
        found = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read.", type(error).__name__, "Check the path.") from error
    listed = tuple(line.strip() for line in found if line.strip())
    if not listed:
        raise InputError(f"{path} is empty.", "It lists no subject and no sample.", "Put one in each line.")
    return listed


def hyperparameters(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` pairs as a mapping.

    Raises:
        InputError: If one is no pair.
    """
    from expunge.exact.planner import parse_value

    broken = [pair for pair in pairs if "=" not in pair]
    if broken:
        raise InputError(f"--set {broken[0]} does not fit.", "It is not KEY=VALUE.", "Correct it.")
    return {key: parse_value(text) for key, _, text in (pair.partition("=") for pair in pairs)}
