# SPDX-License-Identifier: Apache-2.0
"""Options of the commands ``forget`` and ``request open``, and their parsing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from expunge.errors import InputError
from expunge.storage.user_files import open_text, read_text

accept_option = click.option(
    "--accept",
    type=click.Choice(["no-power"]),
    help="Also accept a result with this verdict: the audit could not detect a trace even before.",
)
budget_option = click.option(
    "--budget", type=float, metavar="X", help="Largest cost of a method, as a fraction of a retrain. [0.25]"
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A hyper-parameter of the method. Repeat.",
)
_ERASURE = (
    click.option(
        "--subject", "subjects", multiple=True, metavar="ID", help="A data subject. May be repeated."
    ),
    click.option("--sample", "samples", multiple=True, metavar="PATH", help="One image. May be repeated."),
    click.option(
        "--from",
        "listed",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Ids or paths: a line each, or the first column of a CSV file with a header.",
    ),
    click.option("--class", "class_name", metavar="NAME", help="All images of a class."),
    click.option("--dataset", metavar="NAME", help="The dataset of the subjects or samples."),
    click.option(
        "--model",
        "models",
        multiple=True,
        metavar="MODEL",
        help="Only this model. May be repeated. [all that saw the data]",
    ),
    click.option(
        "--method",
        default="auto",
        show_default=True,
        help="auto, exact, retrain, or a method by name (scrub, …).",
    ),
    accept_option,
    budget_option,
    set_option,
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of a method."),
    click.option(
        "--level",
        type=click.Choice(["quick", "standard", "full"]),
        default="quick",
        show_default=True,
        help="Level of the audit that judges a method's result; see `expunge audit --help`.",
    ),
    click.option(
        "--references",
        type=click.IntRange(min=0),
        metavar="N",
        help="Number of reference models of the audit. [2, full: 19]",
    ),
)
actor_option = click.option(
    "--actor", metavar="NAME", help="Name for the record. [the user of the operating system]"
)


def erasure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select the data to erase, the models and the method."""
    for option in reversed(_ERASURE):
        command = option(command)
    return command


def lines(path: Path | None) -> tuple[str, ...]:
    """Return the ids or paths in a list file: its lines, or the first column of a CSV file.

    A CSV file has a header with several columns, of which the first is ``sample`` or ``subject``, as in the
    ``forget.csv`` that ``expunge bias find --out`` writes.

    Raises:
        InputError: If the file cannot be read, is empty, or is the ranking of all samples.
    """
    if path is None:
        return ()
    try:
        found = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read.", type(error).__name__, "Check the path.") from error
    listed = tuple(line.strip() for line in found if line.strip())
    column = listed[0].partition(",")[0] if listed and "," in listed[0] else ""
    if column == "rank":
        raise InputError(
            f"{path} is a ranking of everything, the harmless too.",
            "What may be forgotten is in forget.csv beside it.",
            "Give that file, after a look at the pictures.",
        )
    if column in ("sample", "subject"):
        listed = _first_column(path)
    if not listed:
        raise InputError(f"{path} is empty.", "It lists no subject and no sample.", "Put one in each line.")
    return listed


def _first_column(path: Path) -> tuple[str, ...]:
    with open_text(path) as file:
        rows = csv.reader(file, strict=True)
        try:
            next(rows)
            return tuple(dict.fromkeys(row[0].strip() for row in rows if row and row[0].strip()))
        except csv.Error as error:
            raise InputError(
                f"{path}, line {rows.line_num} cannot be read.", str(error), "Correct the file."
            ) from error


def hyperparameters(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` pairs as a mapping with parsed values.

    Raises:
        InputError: If a pair has no "=".
    """
    from expunge.exact.planner import parse_value

    broken = [pair for pair in pairs if "=" not in pair]
    if broken:
        raise InputError(f"--set {broken[0]} does not fit.", "It is not KEY=VALUE.", "Correct it.")
    return {key: parse_value(text) for key, _, text in (pair.partition("=") for pair in pairs)}
