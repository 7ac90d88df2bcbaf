# SPDX-License-Identifier: Apache-2.0
"""Which model versions were trained on samples that go, and which models descend from one that was.

A training from weights of ours that saw a person cannot be repaired from that start, and a copy of such
weights under another name holds the person too: such models are withdrawn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select

from expunge.catalog import ancestry
from expunge.catalog.ancestry import Ancestry, Kind, Link
from expunge.catalog.models import Published
from expunge.catalog.selection import in_chunks
from expunge.catalog.tables import PlanRow, SampleRow, SawRow, SubjectRow
from expunge.catalog.versions import iter_rows, not_erased
from expunge.data.types import Sample
from expunge.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.elements import ColumnElement

    from expunge.exact.plan import Plan
    from expunge.workspace import Workspace

PENDING = ""  # stands for a request that has not erased anything yet


@dataclass(frozen=True)
class Row:
    """A training sample that goes, and the first dataset version without it."""

    sample: Sample
    removed: int | None

    def is_in(self, version: int) -> bool:
        """Whether a version of the dataset has it."""
        return self.sample.arrived <= version and (self.removed is None or self.removed > version)

    @property
    def key(self) -> tuple[str, int]:
        """Path, and version of arrival."""
        return self.sample.path, self.sample.arrived


@dataclass(frozen=True)
class Descent:
    """A live model that holds what goes, through its start or through equal tensors.

    Attributes:
        model: Its newest version.
        source: The version that was trained on what goes.
        kind: How the model comes from it: ``start`` or ``tensors``.
        saw: How many training samples that go the source had.
    """

    model: Published
    source: Published
    kind: Kind
    saw: int

    @property
    def reason(self) -> str:
        """Why the model is withdrawn."""
        how = "its training began from" if self.kind == "start" else "its tensors are those of"
        return f"{how} {self.source.label}, which saw what is erased"


def rows_to_go(session: Session, dataset_id: int, taken: Set[tuple[str, int]]) -> list[Row]:
    """Return the training samples among what an erasure takes out."""
    found = []
    for paths in in_chunks({path for path, _ in taken}):
        here = and_(SampleRow.dataset_id == dataset_id, SampleRow.path.in_(paths))
        condition = and_(here, SampleRow.split == "train", not_erased())
        found += [row for row in _rows(session, condition) if row.key in taken]
    return found


def rows_erased(session: Session, dataset_id: int, request_id: str) -> list[Row]:
    """Return the training samples that a request erased, as far as the catalog still knows them."""
    here = and_(SampleRow.dataset_id == dataset_id, SampleRow.request_id == request_id)
    return _rows(session, and_(here, SampleRow.removal == "erased", SampleRow.split == "train"))


def _rows(session: Session, condition: ColumnElement[bool]) -> list[Row]:
    removed = dict(session.execute(select(SampleRow.id, SampleRow.removed).where(condition)).all())
    return [Row(sample, removed.get(i)) for i, sample in iter_rows(session, condition)]


def trained_on(
    workspace: Workspace, session: Session, dataset_id: int, rows: Collection[Row], known: Ancestry
) -> dict[int, frozenset[tuple[str, int]]]:
    """Return for each version that was trained on some of the rows which they are (path, arrival)."""
    if not rows:
        return {}
    query = select(SubjectRow.name, SubjectRow.risk)
    query = query.where(SubjectRow.dataset_id == dataset_id, SubjectRow.risk.is_not(None))
    risks = {name: risk for name, risk in session.execute(query) if risk is not None}
    paths = dict(session.execute(select(PlanRow.digest, PlanRow.path)).all())
    plans: dict[str, Plan | None] = {}
    found = {}
    for i, p in known.versions.items():
        mine = [row for row in rows if row.is_in(p.dataset_version)] if p.dataset_id == dataset_id else []
        if mine and p.plan_digest is not None:
            if p.plan_digest not in plans:
                plans[p.plan_digest] = _plan(workspace, paths.get(p.plan_digest))
            mine = _merged(plans[p.plan_digest], p.composition, mine, risks)
        if mine:
            found[i] = frozenset(row.key for row in mine)
    return found


def _plan(workspace: Workspace, path: str | None) -> Plan | None:
    from expunge.exact.plan import load_plan

    try:
        return load_plan(workspace.root / path) if path else None
    except InputError:
        return None  # damaged: then every sample of the dataset's version counts as seen


def _merged(
    plan: Plan | None, composition: Mapping[str, Any] | None, rows: list[Row], risks: Mapping[str, float]
) -> list[Row]:
    """The rows that are in the shards and slices of which a version was merged."""
    from expunge.exact.placement import home

    if plan is None or not composition or composition.get("polish"):
        return rows
    stages = {int(shard): stage for shard, stage in composition.get("stages", {}).items()}
    kept = []
    for row in rows:
        place = home(plan, row.sample, risks)
        if row.sample.public or stages.get(place.shard, 0) > place.slice:
            kept.append(row)
    return kept


def descents(
    workspace: Workspace, session: Session, dataset_id: int, taken: Set[tuple[str, int]]
) -> dict[str, Descent]:
    """Return by name the live models that an erasure will withdraw, although its data is not theirs."""
    known = ancestry.load(session)
    if not _related(known):
        return {}
    rows = rows_to_go(session, dataset_id, taken)
    saw = trained_on(workspace, session, dataset_id, rows, known)
    return _descents(known, saw, PENDING)


def descents_of(
    workspace: Workspace, session: Session, dataset_id: int, request_id: str
) -> dict[str, Descent]:
    """Return the same after the erasure: the live models that have still to be withdrawn for a request."""
    known = ancestry.load(session)
    if not _related(known):
        return {}
    rows = rows_erased(session, dataset_id, request_id)
    recorded = set(session.scalars(select(SawRow.model_version_id).where(SawRow.request_id == request_id)))
    saw = {
        i: mine
        for i, mine in trained_on(workspace, session, dataset_id, rows, known).items()
        if i in recorded or _still_holds(known.versions[i], request_id)
    }
    return _descents(known, saw, request_id)


def record(
    workspace: Workspace,
    session: Session,
    dataset_id: int,
    taken: Set[tuple[str, int]],
    request_id: str,
) -> None:
    """Record, before an erasure, which model versions were trained on what it takes out."""
    known = ancestry.load(session)
    saw = trained_on(workspace, session, dataset_id, rows_to_go(session, dataset_id, taken), known)
    ancestry.record_saw(session, saw, request_id)


def _still_holds(version: Published, request_id: str) -> bool:
    return version.plan_digest is None and request_id not in (version.composition or {}).get("forgotten", ())


def _related(known: Ancestry) -> bool:
    """Whether any version can come from another model's: what is read for it takes time."""
    digests = [p.digest for p in known.versions.values()]
    every = set[str]().union(*known.keys.values()) if known.keys else set()
    rounded = any(known.keys[i] & (set(digests) - {p.digest}) for i, p in known.versions.items())
    return rounded or len(set(digests)) < len(digests) or any(s & every for s in known.starts.values())


def _descents(
    known: Ancestry, saw: Mapping[int, frozenset[tuple[str, int]]], request_id: str
) -> dict[str, Descent]:
    held = known.held(dict.fromkeys(saw, (request_id,)))
    live = {p.name: p for p in known.versions.values()}  # ids ascend with time
    found = {}
    for name, p in sorted(live.items()):
        link = held.get(p.id, {}).get(request_id)
        if p.withdrawn or link is None:
            continue
        roots = {i: _root(held, i, request_id) for i, requests in held.items() if request_id in requests}
        through = _foreign(known, {i: saw[root] for i, root in roots.items()}, saw.get(p.id), p)
        if through is not None:
            kind, source = through
            root = roots[source]
            found[name] = Descent(p, known.versions[root], kind, len(saw[root]))
    return found


def _root(held: Mapping[int, Mapping[str, Link]], version: int, request_id: str) -> int:
    """The version whose own data it is that a version holds."""
    while (link := held[version][request_id]).kind != "data":
        version = link.source
    return version


def _foreign(
    known: Ancestry,
    holders: Mapping[int, Set[tuple[str, int]]],
    own: Set[tuple[str, int]] | None,
    p: Published,
) -> tuple[Kind, int] | None:
    """How a version holds what goes otherwise than by data that it can forget itself; None if it does not.

    A model that was trained here cannot be repaired from a start that saw it. An adopted one can be unlearned
    if its own data has all that its start, or a copy of it, saw, and no layer was frozen as it came.

    Args:
        known: All versions.
        holders: The versions that hold what goes, each with the samples.
        own: Those that the version was trained on itself.
        p: The version.
    """
    for i, rows in holders.items():
        other = known.versions[i]
        if i == p.id or (other.name, other.digest) == (p.name, p.digest):
            continue
        covered = own is not None and rows <= own
        is_start = bool(known.keys[i] & known.starts[p.id])
        if is_start and (p.plan_digest is not None or not covered or (p.composition or {}).get("frozen")):
            return "start", i
        if (other.digest in known.keys[p.id] or p.digest in known.keys[i]) and not covered:
            return "tensors", i
    return None
