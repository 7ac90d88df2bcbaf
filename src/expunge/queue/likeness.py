# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates of what a request takes out, pair by pair, for an officer to look at and decide.

Samples are named by their row in the catalog: a path may be a person's name, and an address is no place for
it. Once the catalog has forgotten a row, nothing here finds it any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from expunge.catalog import decisions
from expunge.catalog.datasets import get_version
from expunge.catalog.models import get_request
from expunge.catalog.requests import dataset_name
from expunge.catalog.selection import in_chunks
from expunge.catalog.tables import DatasetRow, SampleRow
from expunge.catalog.versions import in_version, not_erased
from expunge.duplicates import duplicates
from expunge.errors import Conflict, InputError, NotFound
from expunge.steps.scoping import Ask, scope_of

if TYPE_CHECKING:
    from expunge.data.types import Version
    from expunge.workspace import Workspace

SHOWN = 60


def lookalikes(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Find pictures that look like those that a request takes out, and are not taken out with them.

    Returns:
        ``pairs``, the most alike first (each with the rows ``a`` (taken out) and ``b``, their paths and
        subjects, ``similarity``, ``flipped``, ``identical``, ``decision``), how many there are in ``count``,
        and ``unreadable`` pictures.

    Raises:
        NotFound: If the request is unknown.
        Conflict: If it has begun to be executed: then it is too late to decide.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        if row.version_after is not None or "asked" not in row.selection:
            raise Conflict(
                f"{request_id} has been executed, or is closed.", "What it takes out is settled.", ""
            )
        ask = Ask.from_record(row.method, row.selection)
    scope = scope_of(workspace, ask)
    version = scope.selection.version
    found: list[dict[str, Any]] = []
    unreadable = 0
    subjects: list[str | None] = [*sorted(scope.selection.subjects)]
    if {path for path, _ in scope.taken} - _of_subjects(workspace, version, scope.selection.subjects):
        subjects = [None]  # samples by name: they are among all pairs
    for subject in subjects:
        seen = duplicates(workspace, version.label, subject=subject)
        unreadable = max(unreadable, seen["unreadable"])
        found += seen["pairs"]
    asked = {path for path, _ in scope.taken}
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for pair in found:
        turned = pair if pair["a"] in asked else _turned(pair)
        joined = pair["decision"] == decisions.SAME
        if turned["a"] in asked and (turned["b"] not in asked or joined):
            pairs.setdefault((turned["a"], turned["b"]), turned)
    shown = sorted(pairs.values(), key=lambda p: (p["decision"] is not None, -p["similarity"], p["b"]))
    rows = _rows(workspace, version, {p[side] for p in shown[:SHOWN] for side in ("a", "b")})
    return {
        "dataset": version.label,
        "count": len(shown),
        "undecided": sum(1 for p in shown if p["decision"] is None),
        "unreadable": unreadable,
        "pairs": [
            {**p, "path_a": p["a"], "path_b": p["b"], "a": rows[p["a"]], "b": rows[p["b"]]}
            for p in shown[:SHOWN]
            if p["a"] in rows and p["b"] in rows
        ],
    }


def decide_pair(workspace: Workspace, request_id: str, first: int, second: int, decision: str) -> None:
    """Keep what an officer decided about a pair: ``same`` takes the second out with the first.

    Raises:
        InputError: If that is no decision about two samples.
        NotFound: If the request or a sample is unknown.
        Conflict: If it is too late.
    """
    if decision not in decisions.DECISIONS or first == second:
        raise InputError("That is no decision about a pair.", f"Known: {', '.join(decisions.DECISIONS)}.", "")
    with workspace.session(write=True) as session:
        row = get_request(session, request_id)
        if row.version_after is not None:
            raise Conflict(f"{request_id} has been executed.", "What it takes out is settled.", "")
        version = get_version(session, dataset_name(session, row))
        here = in_version(version.dataset_id, version.number)
        query = select(SampleRow.id, SampleRow.path).where(
            here, not_erased(), SampleRow.id.in_([first, second])
        )
        paths = dict(session.execute(query).all())
        if len(paths) < 2:
            raise NotFound("There is no such pair.", f"Its samples are not in {version.label}.", "")
        decisions.decide(session, version, [(paths[first], paths[second], decision)])


def picture_of(workspace: Workspace, request_id: str, sample: int) -> Path:
    """Return the file of a sample of the request's dataset: one that is retained, or that it erased itself.

    Raises:
        NotFound: If there is none, or another request erased it.
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


def _turned(pair: dict[str, Any]) -> dict[str, Any]:
    sides = {"a": "b", "b": "a", "subjects_a": "subjects_b", "subjects_b": "subjects_a"}
    return {**pair, **{new: pair[old] for new, old in sides.items()}}


def _of_subjects(workspace: Workspace, version: Version, subjects: frozenset[str]) -> set[str]:
    from expunge.catalog.selection import row_conditions

    with workspace.session() as session:
        return {
            path
            for condition in row_conditions(version.dataset_id, subjects, ())
            for path in session.scalars(select(SampleRow.path).where(condition))
        }


def _rows(workspace: Workspace, version: Version, paths: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    here = in_version(version.dataset_id, version.number)
    with workspace.session() as session:
        for chunk in in_chunks(paths):
            query = select(SampleRow.path, SampleRow.id).where(here, SampleRow.path.in_(chunk))
            found |= dict(session.execute(query).all())
    return found
