# SPDX-License-Identifier: Apache-2.0
"""Finds the model versions that were trained on erased samples, and the models that descend from them.

A model whose training started from weights that were trained on a subject cannot be repaired from that start,
and a copy of such weights under another name holds the subject too. Such models are withdrawn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select

from expunge.catalog import ancestry
from expunge.catalog.ancestry import Ancestry, Kind, Link
from expunge.catalog.bulk import in_chunks
from expunge.catalog.model_store import ModelVersion
from expunge.catalog.tables import PlanRow, SampleRow, SubjectRow, TrainedOnRow
from expunge.catalog.versions import iter_rows, not_erased
from expunge.data.types import Sample
from expunge.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.elements import ColumnElement

    from expunge.training.plan import Plan
    from expunge.workspace import Workspace

PENDING = ""  # request id of an erasure that has not begun


@dataclass(frozen=True)
class Row:
    """A training sample to erase.

    Attributes:
        sample: The sample.
        removed: Number of the first dataset version without it; None: every later version has it.
    """

    sample: Sample
    removed: int | None

    def is_in(self, version: int) -> bool:
        """Return whether a dataset version has the sample."""
        return self.sample.arrived <= version and (self.removed is None or self.removed > version)

    @property
    def key(self) -> tuple[str, int]:
        """(path, version of arrival)."""
        return self.sample.path, self.sample.arrived


@dataclass(frozen=True)
class Descent:
    """A live model that holds erased samples through its start or through equal tensors.

    Attributes:
        model: Its newest version.
        source: The version that was trained on the erased samples.
        kind: How the model descends from the source: ``start`` or ``tensors``.
        saw: Number of erased training samples of the source.
    """

    model: ModelVersion
    source: ModelVersion
    kind: Kind
    saw: int

    @property
    def reason(self) -> str:
        """The reason why the model is withdrawn."""
        relation = "its training began from" if self.kind == "start" else "its tensors are those of"
        return f"{relation} {self.source.label}, which was trained on erased data"


def training_rows_to_erase(session: Session, dataset_id: int, taken: Set[tuple[str, int]]) -> list[Row]:
    """Return the training samples among the rows that an erasure takes out, given as (path, arrival)."""
    found = []
    for paths in in_chunks({path for path, _ in taken}):
        here = and_(SampleRow.dataset_id == dataset_id, SampleRow.path.in_(paths))
        condition = and_(here, SampleRow.split == "train", not_erased())
        found += [row for row in _rows(session, condition) if row.key in taken]
    return found


def erased_training_rows(session: Session, dataset_id: int, request_id: str) -> list[Row]:
    """Return the training samples that a request erased and that the catalog has not forgotten."""
    here = and_(SampleRow.dataset_id == dataset_id, SampleRow.request_id == request_id)
    return _rows(session, and_(here, SampleRow.removal == "erased", SampleRow.split == "train"))


def _rows(session: Session, condition: ColumnElement[bool]) -> list[Row]:
    removed = dict(session.execute(select(SampleRow.id, SampleRow.removed).where(condition)).all())
    return [Row(sample, removed.get(i)) for i, sample in iter_rows(session, condition)]


def trained_on(
    workspace: Workspace, session: Session, dataset_id: int, rows: Collection[Row], known: Ancestry
) -> dict[int, frozenset[tuple[str, int]]]:
    """Return by version id the rows on which each model version was trained, as (path, arrival).

    Versions that were trained on none of the rows are left out.

    Args:
        workspace: The workspace of the models.
        session: A session on its catalog.
        dataset_id: The dataset of the rows.
        rows: The training samples to look for.
        known: All model versions.
    """
    if not rows:
        return {}
    query = select(SubjectRow.name, SubjectRow.risk)
    query = query.where(SubjectRow.dataset_id == dataset_id, SubjectRow.risk.is_not(None))
    risks = {name: risk for name, risk in session.execute(query) if risk is not None}
    paths = dict(session.execute(select(PlanRow.digest, PlanRow.path)).all())
    plans: dict[str, Plan | None] = {}
    found = {}
    for i, p in known.versions.items():
        seen = [row for row in rows if row.is_in(p.dataset_version)] if p.dataset_id == dataset_id else []
        if seen and p.plan_digest is not None:
            if p.plan_digest not in plans:
                plans[p.plan_digest] = _load_plan(workspace, paths.get(p.plan_digest))
            seen = _merged_rows(plans[p.plan_digest], p.composition, seen, risks)
        if seen:
            found[i] = frozenset(row.key for row in seen)
    return found


def _load_plan(workspace: Workspace, path: str | None) -> Plan | None:
    """Return a plan, or None if its file is missing or damaged."""
    from expunge.training.plan import load_plan

    try:
        return load_plan(workspace.root / path) if path else None
    except InputError:
        return None  # then every sample of the dataset version counts as seen


def _merged_rows(
    plan: Plan | None, composition: Mapping[str, Any] | None, rows: list[Row], risks: Mapping[str, float]
) -> list[Row]:
    """Return the rows that are in the shards and slices from which a version was merged."""
    from expunge.exact.placement import place_sample

    if plan is None or not composition or composition.get("polish"):
        return rows
    stages = {int(shard): stage for shard, stage in composition.get("stages", {}).items()}
    kept = []
    for row in rows:
        place = place_sample(plan, row.sample, risks)
        if row.sample.public or stages.get(place.shard, 0) > place.slice:
            kept.append(row)
    return kept


def descents_before_erasure(
    workspace: Workspace, session: Session, dataset_id: int, taken: Set[tuple[str, int]]
) -> dict[str, Descent]:
    """Return by name the live models that an erasure will withdraw because of their descent.

    Args:
        workspace: The workspace of the models.
        session: A session on its catalog.
        dataset_id: The dataset of the erasure.
        taken: (path, version of arrival) of the rows that it takes out.
    """
    known = ancestry.load_ancestry(session)
    if not _any_related(known):
        return {}
    rows = training_rows_to_erase(session, dataset_id, taken)
    saw = trained_on(workspace, session, dataset_id, rows, known)
    return _descents(known, saw, PENDING)


def descents_after_erasure(
    workspace: Workspace, session: Session, dataset_id: int, request_id: str
) -> dict[str, Descent]:
    """Return by name the live models that are still to be withdrawn for a request that has erased its data.

    Args:
        workspace: The workspace of the models.
        session: A session on its catalog.
        dataset_id: The dataset of the request.
        request_id: Id of the request.
    """
    known = ancestry.load_ancestry(session)
    if not _any_related(known):
        return {}
    rows = erased_training_rows(session, dataset_id, request_id)
    recorded = set(
        session.scalars(select(TrainedOnRow.model_version_id).where(TrainedOnRow.request_id == request_id))
    )
    saw = {
        i: seen
        for i, seen in trained_on(workspace, session, dataset_id, rows, known).items()
        if i in recorded or _still_holds(known.versions[i], request_id)
    }
    return _descents(known, saw, request_id)


def record_training_samples(
    workspace: Workspace,
    session: Session,
    dataset_id: int,
    taken: Set[tuple[str, int]],
    request_id: str,
) -> None:
    """Record, before an erasure, which model versions were trained on the rows that it takes out."""
    known = ancestry.load_ancestry(session)
    rows = training_rows_to_erase(session, dataset_id, taken)
    ancestry.record_trained_on(session, trained_on(workspace, session, dataset_id, rows, known), request_id)


def _still_holds(version: ModelVersion, request_id: str) -> bool:
    """Return whether a version is adopted and has not fulfilled the request."""
    return version.plan_digest is None and request_id not in (version.composition or {}).get("forgotten", ())


def _any_related(known: Ancestry) -> bool:
    """Return whether any version can descend from another model; a quick check that reads no plans."""
    digests = [p.digest for p in known.versions.values()]
    every = set[str]().union(*known.keys.values()) if known.keys else set()
    rounded = any(known.keys[i] & (set(digests) - {p.digest}) for i, p in known.versions.items())
    return rounded or len(set(digests)) < len(digests) or any(s & every for s in known.starts.values())


def _descents(
    known: Ancestry, saw: Mapping[int, frozenset[tuple[str, int]]], request_id: str
) -> dict[str, Descent]:
    """Return by name the live models that hold the request's rows through another version."""
    held = known.held(dict.fromkeys(saw, (request_id,)))
    live = {p.name: p for p in known.versions.values()}  # ids ascend with time
    found = {}
    for name, p in sorted(live.items()):
        link = held.get(p.id, {}).get(request_id)
        if p.withdrawn or link is None:
            continue
        roots = {i: _root(held, i, request_id) for i, requests in held.items() if request_id in requests}
        inherited = _inheritance(known, {i: saw[root] for i, root in roots.items()}, saw.get(p.id), p)
        if inherited is not None:
            kind, source = inherited
            root = roots[source]
            found[name] = Descent(p, known.versions[root], kind, len(saw[root]))
    return found


def _root(held: Mapping[int, Mapping[str, Link]], version: int, request_id: str) -> int:
    """Return the version that was itself trained on the data that a version holds."""
    while (link := held[version][request_id]).kind != "data":
        version = link.source
    return version


def _inheritance(
    known: Ancestry,
    holders: Mapping[int, Set[tuple[str, int]]],
    own: Set[tuple[str, int]] | None,
    p: ModelVersion,
) -> tuple[Kind, int] | None:
    """Return how and from which version a version inherits erased data that it cannot forget itself.

    A model that was trained here cannot be repaired from a start that was trained on the data. An adopted
    model can be unlearned if its own data includes all erased samples of its start (or of its copy) and no
    layer of the start was frozen.

    Args:
        known: All model versions.
        holders: The versions that hold erased data, each with its samples.
        own: The erased samples on which the version itself was trained.
        p: The version.

    Returns:
        (kind, version id); None if it inherits nothing.
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
