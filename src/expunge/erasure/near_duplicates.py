# SPDX-License-Identifier: Apache-2.0
"""Lists near-duplicates of the samples that a request erases, so that an officer can decide on each pair.

Samples are identified by their row id in the catalog: a path may contain a person's name and must not appear
in a URL. Rows that the catalog has forgotten are not found.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from expunge.catalog import decisions
from expunge.catalog.bulk import in_chunks
from expunge.catalog.dataset_store import get_version
from expunge.catalog.model_store import get_request
from expunge.catalog.request_store import dataset_name
from expunge.catalog.tables import DatasetRow, SampleRow
from expunge.catalog.versions import in_version, not_erased
from expunge.datasets.near_duplicates import find_duplicates
from expunge.erasure.scope import ErasureRequest, resolve_scope
from expunge.errors import Conflict, InputError, NotFound

if TYPE_CHECKING:
    from expunge.data.types import Version
    from expunge.workspace import Workspace

MAX_PAIRS = 60  # returned at once


def find_near_duplicates(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Return retained images that are near-duplicates of images that a request erases.

    Returns:
        ``pairs``, undecided and most similar first, at most ``MAX_PAIRS``: row ids ``a`` (erased) and ``b``,
        their paths and subjects, ``similarity``, ``flipped``, ``identical``, ``decision``; the numbers of all
        pairs (``count``), of ``undecided`` pairs and of ``unreadable`` images.

    Raises:
        NotFound: If the request is unknown.
        Conflict: If the execution of the request has begun.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        if row.version_after is not None or "asked" not in row.selection:
            raise Conflict(
                f"{request_id} has been executed, or is closed.", "Its selection cannot change any more.", ""
            )
        request = ErasureRequest.from_record(row.method, row.selection)
    scope = resolve_scope(workspace, request)
    version = scope.selection.version
    erased = {path for path, _ in scope.taken}
    subjects: list[str | None] = [*sorted(scope.selection.subjects)]
    if erased - _paths_of_subjects(workspace, version, scope.selection.subjects):
        subjects = [None]  # samples selected by path are found only among the pairs of the whole dataset
    candidates: list[dict[str, Any]] = []
    unreadable = 0
    for subject in subjects:
        found = find_duplicates(workspace, version.label, subject=subject)
        unreadable = max(unreadable, found["unreadable"])
        candidates += found["pairs"]
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for candidate in candidates:
        pair = candidate if candidate["a"] in erased else _swapped(candidate)
        joined = pair["decision"] == decisions.SAME
        if pair["a"] in erased and (pair["b"] not in erased or joined):
            pairs.setdefault((pair["a"], pair["b"]), pair)
    ordered = sorted(pairs.values(), key=lambda p: (p["decision"] is not None, -p["similarity"], p["b"]))
    first = ordered[:MAX_PAIRS]
    row_ids = _row_ids(workspace, version, {p[side] for p in first for side in ("a", "b")})
    return {
        "dataset": version.label,
        "count": len(ordered),
        "undecided": sum(1 for p in ordered if p["decision"] is None),
        "unreadable": unreadable,
        "pairs": [
            {**p, "path_a": p["a"], "path_b": p["b"], "a": row_ids[p["a"]], "b": row_ids[p["b"]]}
            for p in first
            if p["a"] in row_ids and p["b"] in row_ids
        ],
    }


def decide_pair(workspace: Workspace, request_id: str, first: int, second: int, decision: str) -> None:
    """Record an officer's decision about a pair; ``same`` erases the second sample with the first.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        first: Row id of the erased sample.
        second: Row id of its near-duplicate.
        decision: One of ``catalog.decisions.DECISIONS``.

    Raises:
        InputError: If the decision is unknown or the two samples are the same.
        NotFound: If the request or a sample is unknown.
        Conflict: If the request has been executed.
    """
    if decision not in decisions.DECISIONS or first == second:
        raise InputError("The decision is invalid.", f"Known: {', '.join(decisions.DECISIONS)}.", "")
    with workspace.session(write=True) as session:
        row = get_request(session, request_id)
        if row.version_after is not None:
            raise Conflict(f"{request_id} has been executed.", "Its selection cannot change any more.", "")
        version = get_version(session, dataset_name(session, row))
        here = in_version(version.dataset_id, version.number)
        query = select(SampleRow.id, SampleRow.path).where(
            here, not_erased(), SampleRow.id.in_([first, second])
        )
        paths = dict(session.execute(query).all())
        if len(paths) < 2:
            raise NotFound("There is no such pair.", f"Its samples are not in {version.label}.", "")
        decisions.record_decisions(session, version, [(paths[first], paths[second], decision)])


def image_file(workspace: Workspace, request_id: str, sample: int) -> Path:
    """Return the image file of a sample that is retained or that the request itself erased.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        sample: Row id of the sample, in the request's dataset.

    Raises:
        NotFound: If there is no such sample, or another request erased it.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        query = select(SampleRow.path).where(
            SampleRow.id == sample,
            SampleRow.dataset_id == row.dataset_id,
            or_(not_erased(), SampleRow.request_id == request_id),
        )
        path = session.scalar(query)
        root = Path(session.get_one(DatasetRow, row.dataset_id).root)
    if path is None:
        raise NotFound("There is no such picture.", "", "")
    return root / path


def _swapped(pair: dict[str, Any]) -> dict[str, Any]:
    """Return a pair with its sides ``a`` and ``b`` exchanged."""
    sides = {"a": "b", "b": "a", "subjects_a": "subjects_b", "subjects_b": "subjects_a"}
    return {**pair, **{new: pair[old] for new, old in sides.items()}}


def _paths_of_subjects(workspace: Workspace, version: Version, subjects: frozenset[str]) -> set[str]:
    """Return the paths of the samples that concern the subjects."""
    from expunge.catalog.selection import row_conditions

    with workspace.session() as session:
        return {
            path
            for condition in row_conditions(version.dataset_id, subjects, ())
            for path in session.scalars(select(SampleRow.path).where(condition))
        }


def _row_ids(workspace: Workspace, version: Version, paths: set[str]) -> dict[str, int]:
    """Return the row ids of samples by path."""
    found: dict[str, int] = {}
    here = in_version(version.dataset_id, version.number)
    with workspace.session() as session:
        for chunk in in_chunks(paths):
            query = select(SampleRow.path, SampleRow.id).where(here, SampleRow.path.in_(chunk))
            found |= dict(session.execute(query).all())
    return found
