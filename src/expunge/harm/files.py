# SPDX-License-Identifier: Apache-2.0
"""The files of a search: the whole ranking, the list that ``forget --from`` takes, and a contact sheet.

They are the user's own, with paths and ids in them: written only where asked, for their owner alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expunge.bias.ranking import SAMPLE, SUBJECT, Ranking
from expunge.errors import InputError
from expunge.exact.checkpoint import disk_errors, write_atomically
from expunge.harm.sheet import write_ranked_sheet

if TYPE_CHECKING:
    from torch import nn

    from expunge.harm.finding import Ground, Search
    from expunge.harm.labels import Doubts
    from expunge.tasks.protocol import Task

RANKING, FORGET, SHEET = "ranking.csv", "forget.csv", "sheet.html"
OF_AN_ITEM = 12  # pictures of a person or contributor on the sheet


def check_folder(out: Path) -> None:
    """Refuse a folder in which something is.

    Raises:
        InputError: If there is.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(
            f"{out} exists already.", "What is found goes to a new or empty folder.", "Choose another."
        )


def write_files(
    out: Path,
    ground: Ground,
    ranking: Ranking,
    keys: Sequence[Sequence[str]],
    doubt: Doubts,
    task: Task,
    module: nn.Module,
    search: Search,
) -> dict[str, str]:
    """Write the three files, and return their paths by name.

    Args:
        out: A new or empty folder.
        ground: The training samples.
        ranking: What was found.
        keys: The items of every training sample.
        doubt: Doubts about their labels.
        task, module: Say what the model says, for the sheet.
        search: What was looked for.

    Raises:
        StorageError: If one cannot be written.
    """
    with disk_errors("The folder"):
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    scores = list(ranking.scores)
    whole: list[list[str | int]] = [
        [i + 1, name, ranking.counts[i], *(_number(ranking.scores[k][i]) for k in scores)]
        for i, name in enumerate(ranking.names)
    ]
    _write(out / RANKING, ["rank", ranking.by, "samples", *scores], whole)
    members = _members(ranking, keys)
    _write(out / FORGET, *forget_table(ranking, members, [s.path for s in ground.train]))
    shown = [(i, row) for i in range(ranking.chosen) for row in members[i][:OF_AN_ITEM]]
    write_ranked_sheet(out / SHEET, ground, ranking, shown, doubt, task, module, search)
    return {"ranking": str(out / RANKING), "forget": str(out / FORGET), "sheet": str(out / SHEET)}


def forget_table(
    ranking: Ranking, members: Sequence[Sequence[int]], paths: Sequence[str]
) -> tuple[list[str], list[list[str | int]]]:
    """Return header and rows of what may be forgotten: ids of subjects, or paths of samples.

    Args:
        ranking: What was found.
        members: For each item its training samples.
        paths: Of the training samples.
    """
    scores = list(ranking.scores)
    chosen = range(ranking.chosen)
    if ranking.by in (SAMPLE, SUBJECT):
        rows: list[list[str | int]] = [
            [ranking.names[i], i + 1, *(_number(ranking.scores[k][i]) for k in scores)] for i in chosen
        ]
        return [ranking.by, "rank", *scores], rows
    rows = [[paths[row], i + 1, ranking.names[i]] for i in chosen for row in members[i]]
    return [SAMPLE, "rank", ranking.by], rows


def _members(ranking: Ranking, keys: Sequence[Sequence[str]]) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for row, names in enumerate(keys):
        for name in names:
            found.setdefault(name, []).append(row)
    return [found[name] for name in ranking.names]


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"), "The ranking")
    path.chmod(0o600)
