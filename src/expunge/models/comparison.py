# SPDX-License-Identifier: Apache-2.0
"""Detections in a few images before and after an erasure, for visual comparison.

The result holds boxes and ids of catalog rows, but no paths and no images. It shows that the model still
works. A detection of a forgotten person is no evidence of memory, since detectors also find people they never
saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select

from expunge.catalog import model_store
from expunge.catalog.model_store import ModelVersion
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.catalog.versions import in_version, not_erased
from expunge.data.thumbnail import upright_size
from expunge.errors import InputError
from expunge.progress import Progress

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

MOST = 4  # images of each kind
CONFIDENCE = 0.25


def compare(workspace: Workspace, request_id: str, progress: Progress) -> dict[str, Any]:
    """Return the detections of a request's detectors, before and after it, on images that still exist.

    Args:
        workspace: The workspace of the request.
        request_id: The request's id.
        progress: Counts the images.

    Returns:
        ``models``: a list of ``before``, ``after`` (labels) and ``pictures``: ``sample`` (row id), ``erased``
        (by this request), ``width`` and ``height`` in pixels, and the boxes found ``before`` and ``after``:
        x1, y1, x2, y2 in pixels and the confidence.

    Raises:
        InputError: If no detector of the request has both files, or no image is left.
    """
    from expunge.tasks.predict import predict_boxes
    from expunge.tasks.yolo import open_model

    couples = list(detector_pairs(workspace, request_id))
    if not couples:
        raise InputError(
            "There are no two detectors to compare.",
            "The request changed none, or the files of the model before were purged.",
            "",
        )
    with workspace.session() as session:
        images = list(_images(session, model_store.get_request(session, request_id)))
    if not images:
        raise InputError("There is no picture to show.", "Their files are gone.", "")
    progress.begin("comparison", 2 * len(couples) * len(images))
    compared = []
    try:
        for before, after in couples:
            detections = []
            for published in (before, after):
                weights = workspace.root / published.weights
                files = [file for _, file, _ in images]
                detections.append(predict_boxes(weights, files, open_model(weights).imgsz, CONFIDENCE))
                progress.add(len(images))
            pictures = [
                {
                    "sample": sample,
                    "erased": erased,
                    **dict(zip(("width", "height"), upright_size(file), strict=True)),
                    "before": [_flat(b) for b in detections[0][i]],
                    "after": [_flat(b) for b in detections[1][i]],
                }
                for i, (sample, file, erased) in enumerate(images)
            ]
            compared.append({"before": before.label, "after": after.label, "pictures": pictures})
    finally:
        progress.end()
    return {"models": compared}


def detector_pairs(workspace: Workspace, request_id: str) -> Iterator[tuple[ModelVersion, ModelVersion]]:
    """Yield pairs of detectors before and after a request, if both weights files exist."""
    with workspace.session() as session:
        row = model_store.get_request(session, request_id)
        entries = (row.result or {}).get("models", [])
        known = {p.label: p for p in model_store.model_versions(session)}
    for entry in entries:
        before, after = known.get(entry.get("parent") or ""), known.get(entry["model"])
        if before is None or after is None or before.task != "detect":
            continue
        if all((workspace.root / p.weights).is_file() for p in (before, after)):
            yield before, after


def _images(session: Session, row: RequestRow) -> Iterator[tuple[int, Path, bool]]:
    """Yield row id, file and whether the request erased it: some erased images and some held-out ones."""
    root = Path(session.get_one(DatasetRow, row.dataset_id).root)
    number = row.version_after or row.version_before
    erased_here = and_(SampleRow.request_id == row.id, SampleRow.removal == "erased")
    held_out = and_(in_version(row.dataset_id, number), not_erased(), SampleRow.split != "train")
    for condition, erased in ((erased_here, True), (held_out, False)):
        query = select(SampleRow.id, SampleRow.path).where(condition).order_by(SampleRow.path)
        count = 0
        for sample, path in session.execute(query.limit(20 * MOST)):
            if count < MOST and (root / path).is_file():
                count += 1
                yield sample, root / path, erased


def _flat(detection: tuple[tuple[float, float, float, float], float]) -> list[float]:
    """Return x1, y1, x2, y2 and the confidence as one rounded list."""
    box, score = detection
    return [round(v, 1) for v in box] + [round(score, 3)]
