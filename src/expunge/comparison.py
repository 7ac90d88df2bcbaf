# SPDX-License-Identifier: Apache-2.0
"""What a detector finds in a few pictures before and after an erasure, for people to look at.

The answer holds boxes and rows of the catalog, no path and no picture. It shows that the model still works;
that it still finds a person whom it forgot is no sign of memory: detectors find people they never saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select

from expunge.catalog import models as catalog
from expunge.catalog.models import Published
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.catalog.versions import in_version, not_erased
from expunge.data.thumbnail import upright_size
from expunge.errors import InputError
from expunge.progress import Progress

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

MOST = 4  # pictures of each kind
CONFIDENCE = 0.25


def compare(workspace: Workspace, request_id: str, progress: Progress) -> dict[str, Any]:
    """Run the detectors of a request, before and after it, on pictures that are still there.

    Returns:
        ``models``: a list of ``before``, ``after`` (labels) and ``pictures``: ``sample`` (row), ``erased``
        (whether the request took it out), ``width`` and ``height`` in pixels, and the boxes found ``before``
        and ``after``: x1, y1, x2, y2 in pixels and the confidence.

    Raises:
        InputError: If no detector of the request has both files, or no picture is left.
    """
    from expunge.tasks.predict import predict_boxes
    from expunge.tasks.yolo import open_model

    couples = list(couples_of(workspace, request_id))
    if not couples:
        raise InputError(
            "There are no two detectors to compare.",
            "The request changed none, or the files of the model before were purged.",
            "",
        )
    with workspace.session() as session:
        shown = list(_pictures(session, catalog.get_request(session, request_id)))
    if not shown:
        raise InputError("There is no picture to show.", "Their files are gone.", "")
    progress.begin("comparison", 2 * len(couples) * len(shown))
    compared = []
    try:
        for before, after in couples:
            found = []
            for published in (before, after):
                weights = workspace.root / published.weights
                files = [file for _, file, _ in shown]
                found.append(predict_boxes(weights, files, open_model(weights).imgsz, CONFIDENCE))
                progress.add(len(shown))
            pictures = [
                {
                    "sample": sample,
                    "erased": erased,
                    **dict(zip(("width", "height"), upright_size(file), strict=True)),
                    "before": [_flat(b) for b in found[0][i]],
                    "after": [_flat(b) for b in found[1][i]],
                }
                for i, (sample, file, erased) in enumerate(shown)
            ]
            compared.append({"before": before.label, "after": after.label, "pictures": pictures})
    finally:
        progress.end()
    return {"models": compared}


def couples_of(workspace: Workspace, request_id: str) -> Iterator[tuple[Published, Published]]:
    """Yield the detectors before and after a request of which both files are there."""
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        entries = (row.result or {}).get("models", [])
        known = {p.label: p for p in catalog.history(session)}
    for entry in entries:
        before, after = known.get(entry.get("parent") or ""), known.get(entry["model"])
        if before is None or after is None or before.task != "detect":
            continue
        if all((workspace.root / p.weights).is_file() for p in (before, after)):
            yield before, after


def _pictures(session: Session, row: RequestRow) -> Iterator[tuple[int, Path, bool]]:
    """Yield row, file and whether the request erased it: some of its own, some that no model trained on."""
    root = Path(session.get_one(DatasetRow, row.dataset_id).root)
    number = row.version_after or row.version_before
    mine = and_(SampleRow.request_id == row.id, SampleRow.removal == "erased")
    held_out = and_(in_version(row.dataset_id, number), not_erased(), SampleRow.split != "train")
    for condition, erased in ((mine, True), (held_out, False)):
        query = select(SampleRow.id, SampleRow.path).where(condition).order_by(SampleRow.path)
        count = 0
        for sample, path in session.execute(query.limit(20 * MOST)):
            if count < MOST and (root / path).is_file():
                count += 1
                yield sample, root / path, erased


def _flat(found: tuple[tuple[float, float, float, float], float]) -> list[float]:
    box, score = found
    return [round(v, 1) for v in box] + [round(score, 3)]
