# SPDX-License-Identifier: Apache-2.0
"""Exports of models and data, digests of published files, and the erasures that a model version precedes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from expunge.catalog.derived_tables import DataExportRow, ModelExportRow, PublishedFileRow, PurgeRow
from expunge.catalog.models import Published, history
from expunge.catalog.tables import (
    DatasetRow,
    ModelVersionRow,
    OpaqueLeaf,
    RequestRow,
    SampleRow,
    VersionRow,
    now,
)
from expunge.catalog.versions import newest_number


@dataclass(frozen=True)
class Exported:
    """An export of a model version (see :class:`~expunge.catalog.derived_tables.ModelExportRow`)."""

    id: int
    model_version_id: int
    format: str
    path: str
    size_bytes: int
    images: int
    difference: float
    tolerance: float
    created: str
    removed: bool


@dataclass(frozen=True)
class DataExport:
    """A sanitized tree, and the requests that have erased something of it since."""

    id: str
    dataset: str
    version: int
    path: str
    requests: tuple[str, ...]


def add_model_export(session: Session, digests: Iterable[str], **columns: Any) -> int:
    """Record an export and the SHA-256 of each of its files; returns its id."""
    row = ModelExportRow(**columns)
    session.add(row)
    session.flush()
    for digest in digests:
        session.add(
            PublishedFileRow(
                model_version_id=row.model_version_id, export_id=row.id, digest=f"sha256:{digest}"
            )
        )
    session.flush()
    return row.id


def withdraw_model_export(session: Session, export_id: int) -> None:
    """Take back the record of an export whose file was never put in place."""
    session.execute(delete(PublishedFileRow).where(PublishedFileRow.export_id == export_id))
    session.execute(delete(ModelExportRow).where(ModelExportRow.id == export_id))


def mark_export_removed(session: Session, export_id: int) -> None:
    """Record that an export's files are gone; its digests stay, so that copies elsewhere are known."""
    session.execute(update(ModelExportRow).where(ModelExportRow.id == export_id).values(removed=now()))


def model_exports(session: Session, version_ids: Iterable[int], *, removed: bool = False) -> list[Exported]:
    """Return the exports of some versions, oldest first; with ``removed`` also those that are gone."""
    query = select(ModelExportRow).where(ModelExportRow.model_version_id.in_(list(version_ids)))
    if not removed:
        query = query.where(ModelExportRow.removed.is_(None))
    return [_exported(row) for row in session.scalars(query.order_by(ModelExportRow.id))]


def export_digests(session: Session, export_id: int) -> set[str]:
    """Return the SHA-256 of an export's files, hex."""
    query = select(PublishedFileRow.digest).where(PublishedFileRow.export_id == export_id)
    return {digest.removeprefix("sha256:") for digest in session.scalars(query)}


def remember_file(session: Session, version_id: int, digest: str) -> None:
    """Keep a digest by which ``status`` knows a file of a version (see ``PublishedFileRow``)."""
    known = select(PublishedFileRow.id).where(
        PublishedFileRow.model_version_id == version_id, PublishedFileRow.digest == digest
    )
    if session.scalar(known) is None:
        session.add(PublishedFileRow(model_version_id=version_id, digest=digest))
        session.flush()


def by_file(session: Session, digest: str) -> list[tuple[Published, Exported | None]]:
    """Return the versions of which a file with that digest was published, newest first, with the export."""
    query = (
        select(PublishedFileRow, ModelExportRow)
        .outerjoin(ModelExportRow, ModelExportRow.id == PublishedFileRow.export_id)
        .where(PublishedFileRow.digest == digest)
        .order_by(PublishedFileRow.id.desc())
    )
    found = session.execute(query).all()
    versions = {p.id: p for p in history(session)} if found else {}
    return [
        (versions[row.model_version_id], _exported(export) if export else None)
        for row, export in found
        if row.model_version_id in versions
    ]


def files_of(session: Session, version_ids: Iterable[int]) -> dict[str, int]:
    """Return the SHA-256 (hex) of every remembered file of some versions, each with its version's id."""
    query = select(PublishedFileRow.digest, PublishedFileRow.model_version_id).where(
        PublishedFileRow.model_version_id.in_(list(version_ids)),
        PublishedFileRow.digest.startswith("sha256:"),
    )
    return {digest.removeprefix("sha256:"): version for digest, version in session.execute(query)}


def add_data_export(session: Session, export_id: str, dataset_id: int, version: int, path: str) -> None:
    """Record that a sanitized tree is being written."""
    newest = newest_number(session, dataset_id)
    session.add(DataExportRow(id=export_id, dataset_id=dataset_id, version=version, newest=newest, path=path))
    session.flush()


def drop_data_export(session: Session, export_id: str) -> None:
    """Forget a sanitized tree that is gone."""
    session.execute(delete(DataExportRow).where(DataExportRow.id == export_id))


def data_exports(session: Session, dataset_id: int, versions: Iterable[int]) -> list[dict[str, Any]]:
    """Return the sanitized trees of some versions of a dataset: ``{path, dataset_version, created}``."""
    query = select(DataExportRow).where(
        DataExportRow.dataset_id == dataset_id, DataExportRow.version.in_(list(versions))
    )
    return [
        {
            "path": row.path,
            "dataset_version": row.version,
            "created": row.created.isoformat(timespec="seconds"),
        }
        for row in session.scalars(query.order_by(DataExportRow.created, DataExportRow.id))
    ]


def outdated_data_exports(session: Session) -> list[DataExport]:
    """Return the sanitized trees in which something is that was erased after they were written."""
    query = select(DataExportRow, DatasetRow.name).join(DatasetRow, DatasetRow.id == DataExportRow.dataset_id)
    found = []
    for row, name in session.execute(query.order_by(DataExportRow.created, DataExportRow.id)).all():
        later = select(VersionRow.request_id).where(
            VersionRow.dataset_id == row.dataset_id,
            VersionRow.number > row.newest,
            VersionRow.request_id.is_not(None),
        )
        after = set(session.scalars(later))
        requests = {r for r in _erased_from(session, row.dataset_id, row.version) if r in after}
        if requests:
            found.append(DataExport(row.id, name, row.version, row.path, tuple(sorted(requests))))
    return found


def requests_seen(session: Session) -> Mapping[int, tuple[str, ...]]:
    """For each model version (by id) the requests that erased, later, what it was trained on.

    A version that a request made, or that is newer than the request's erasure, has not seen its data. Where
    the catalog has forgotten the rows, the request's record says which models they had changed.
    """
    erased: dict[int, list[tuple[int, int | None, str]]] = {}
    forgotten = _forgotten(session)
    query = (
        select(SampleRow.dataset_id, SampleRow.arrived, SampleRow.removed, SampleRow.request_id)
        .where(SampleRow.removal == "erased", SampleRow.request_id.is_not(None), SampleRow.split == "train")
        .distinct()
    )
    for dataset, arrived, removed, request in session.execute(query):
        erased.setdefault(dataset, []).append((arrived, removed, str(request)))
    dates = dict(
        session.execute(
            select(VersionRow.request_id, VersionRow.created).where(VersionRow.request_id.is_not(None))
        ).all()
    )
    versions = history(session)  # first: what another process publishes meanwhile has a date in any case
    created = dict(session.execute(select(ModelVersionRow.id, ModelVersionRow.created)).all())
    seen: dict[int, tuple[str, ...]] = {}
    made_for: dict[str, set[str]] = {}  # by model: the requests that this or an earlier version was made for
    for p in versions:
        mine = made_for.setdefault(p.name, set())
        if p.request_id and p.guarantee != "none":
            mine.add(p.request_id)
        clean = mine | set((p.composition or {}).get("forgotten", []))
        seen[p.id] = tuple(
            sorted(
                {
                    request
                    for arrived, removed, request in (
                        *erased.get(p.dataset_id, ()),
                        *forgotten.get((p.dataset_id, p.name), ()),
                    )
                    if arrived <= p.dataset_version
                    and (removed is None or removed > p.dataset_version)
                    and request not in clean
                    and (request not in dates or created[p.id] < dates[request] or p.guarantee == "none")
                }
            )
        )
    return seen


def record_purge(session: Session, plan: str, summary: dict[str, Any], at: datetime) -> None:
    """Record what a purge deleted, and when: counts by kind and by request, no paths."""
    session.add(PurgeRow(plan=plan, summary=summary, created=at))
    session.flush()


def purges(session: Session, request_id: str | None = None) -> list[dict[str, Any]]:
    """Return the recorded purges, oldest first: ``{plan, created, kinds: {kind: {files, bytes}}, …}``.

    Args:
        session: A session on the catalog.
        request_id: Only what held data of this request (each kind's numbers are then of that request).
    """
    found = []
    for row in session.scalars(select(PurgeRow).order_by(PurgeRow.id)):
        entry = {"plan": row.plan, "created": row.created.isoformat(timespec="seconds"), **row.summary}
        if request_id is not None:
            kinds = entry.pop("requests").get(request_id)
            if kinds is None:
                continue
            entry["kinds"] = kinds
        found.append(entry)
    return found


def _erased_from(session: Session, dataset_id: int, version: int) -> set[str]:
    """The requests that erased something of a version, whether the catalog still knows the rows or not."""
    rows = (
        select(SampleRow.request_id)
        .where(
            SampleRow.dataset_id == dataset_id,
            SampleRow.removal == "erased",
            SampleRow.request_id.is_not(None),
            SampleRow.arrived <= version,
            SampleRow.removed.is_(None) | (SampleRow.removed > version),
        )
        .distinct()
    )
    leaves = (
        select(OpaqueLeaf.request_id)
        .where(
            OpaqueLeaf.dataset_id == dataset_id, OpaqueLeaf.arrived <= version, OpaqueLeaf.removed > version
        )
        .distinct()
    )
    return {request for query in (rows, leaves) for request in session.scalars(query) if request}


def _forgotten(session: Session) -> dict[tuple[int, str], list[tuple[int, int | None, str]]]:
    """By dataset and model: arrival and removal of rows that were forgotten, and which request did it."""
    found: dict[tuple[int, str], list[tuple[int, int | None, str]]] = {}
    spans = select(
        OpaqueLeaf.dataset_id, OpaqueLeaf.arrived, OpaqueLeaf.removed, OpaqueLeaf.request_id
    ).distinct()
    results: dict[str, dict[str, Any] | None] = dict(
        session.execute(
            select(RequestRow.id, RequestRow.result).where(
                RequestRow.id.in_(select(OpaqueLeaf.request_id).distinct())
            )
        ).all()
    )
    for dataset, arrived, removed, request in session.execute(spans):
        for entry in (results.get(request) or {}).get("models", []):
            if entry["digest"] != entry.get("parent_digest"):
                name = entry["model"].partition("@")[0]
                found.setdefault((dataset, name), []).append((arrived, removed, request))
    return found


def _exported(row: ModelExportRow) -> Exported:
    own = ("created", "removed")
    values = {key: getattr(row, key) for key in Exported.__annotations__ if key not in own}
    return Exported(
        created=row.created.isoformat(timespec="seconds"), removed=row.removed is not None, **values
    )
