# SPDX-License-Identifier: Apache-2.0
"""Write the files of a search: the whole ranking, a list for ``forget --from``, and a contact sheet.

They contain paths and ids, so they are written only on request and are readable by their owner alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expunge.bias.attribution.ranking import SAMPLE, SUBJECT, Ranking
from expunge.bias.contact_sheet import write_ranked_sheet
from expunge.errors import InputError
from expunge.storage.files import disk_errors, write_atomically

if TYPE_CHECKING:
    from torch import nn

    from expunge.bias.label_quality import Doubts
    from expunge.bias.search import Search, SearchContext
    from expunge.tasks.protocol import Task

RANKING, FORGET, SHEET = "ranking.csv", "forget.csv", "sheet.html"
IMAGES_PER_ITEM = 12  # images of a person or contributor on the sheet


def check_folder(out: Path) -> None:
    """Raise InputError unless a folder is new or empty.

    Raises:
        InputError: If it exists and is not an empty folder.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(
            f"{out} exists already.", "The results need a new or empty folder.", "Choose another."
        )


def write_files(
    out: Path,
    context: SearchContext,
    ranking: Ranking,
    keys: Sequence[Sequence[str]],
    doubts: Doubts,
    task: Task,
    module: nn.Module,
    search: Search,
) -> dict[str, str]:
    """Write the three files, and return their paths by name.

    Args:
        out: A new or empty folder.
        context: The training samples.
        ranking: The ranking.
        keys: The items of each training sample.
        doubts: Doubts about their labels.
        task, module: The model, for predictions on the sheet.
        search: Arguments of the search.

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
    _write(out / FORGET, *forget_table(ranking, members, [s.path for s in context.train]))
    shown = [(i, row) for i in range(ranking.chosen) for row in members[i][:IMAGES_PER_ITEM]]
    write_ranked_sheet(out / SHEET, context, ranking, shown, doubts, task, module, search)
    return {"ranking": str(out / RANKING), "forget": str(out / FORGET), "sheet": str(out / SHEET)}


def forget_table(
    ranking: Ranking, members: Sequence[Sequence[int]], paths: Sequence[str]
) -> tuple[list[str], list[list[str | int]]]:
    """Return header and rows of the list to forget: ids of subjects, or paths of samples.

    Args:
        ranking: The ranking.
        members: Indices of the training samples of each item.
        paths: Paths of the training samples.
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
