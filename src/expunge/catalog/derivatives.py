# SPDX-License-Identifier: Apache-2.0
"""Records of exports, published files and purges, and of the erasures that affect each model version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from expunge.catalog.derived_tables import DataExportRow, ModelExportRow, PublishedFileRow, PurgeRow
from expunge.catalog.model_store import ModelVersion, model_versions
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
class ModelExport:
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
    """A sanitized dataset export, and the requests that have erased some of its samples since."""

    id: str
    dataset: str
    version: int
    path: str
    requests: tuple[str, ...]


def add_model_export(session: Session, digests: Iterable[str], **columns: Any) -> int:
    """Record a model export and the SHA-256 of each of its files; return the id of the export.

    Args:
        session: A session on the catalog, for writing.
        digests: SHA-256 (hex) of each file.
        columns: Columns of :class:`~expunge.catalog.derived_tables.ModelExportRow`.
    """
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
    """Delete the record of an export whose file was never written."""
    session.execute(delete(PublishedFileRow).where(PublishedFileRow.export_id == export_id))
    session.execute(delete(ModelExportRow).where(ModelExportRow.id == export_id))


def mark_export_removed(session: Session, export_id: int) -> None:
    """Record that an export's files were deleted. Its digests stay, so that copies can be recognised."""
    session.execute(update(ModelExportRow).where(ModelExportRow.id == export_id).values(removed=now()))


def model_exports(
    session: Session, version_ids: Iterable[int], *, removed: bool = False
) -> list[ModelExport]:
    """Return the exports of model versions, oldest first.

    Args:
        session: A session on the catalog.
        version_ids: Ids of the model versions.
        removed: Include exports whose files were deleted.
    """
    query = select(ModelExportRow).where(ModelExportRow.model_version_id.in_(list(version_ids)))
    if not removed:
        query = query.where(ModelExportRow.removed.is_(None))
    return [_exported(row) for row in session.scalars(query.order_by(ModelExportRow.id))]


def export_digests(session: Session, export_id: int) -> set[str]:
    """Return the SHA-256 (hex) of each of an export's files."""
    query = select(PublishedFileRow.digest).where(PublishedFileRow.export_id == export_id)
    return {digest.removeprefix("sha256:") for digest in session.scalars(query)}


def remember_file(session: Session, version_id: int, digest: str) -> None:
    """Record a digest by which ``status`` recognises a file of a version (see ``PublishedFileRow``)."""
    known = select(PublishedFileRow.id).where(
        PublishedFileRow.model_version_id == version_id, PublishedFileRow.digest == digest
    )
    if session.scalar(known) is None:
        session.add(PublishedFileRow(model_version_id=version_id, digest=digest))
        session.flush()


def versions_of_file(session: Session, digest: str) -> list[tuple[ModelVersion, ModelExport | None]]:
    """Return the versions of which a file with this digest was published, newest first.

    Each version comes with the export to which the file belongs, or None.
    """
    query = (
        select(PublishedFileRow, ModelExportRow)
        .outerjoin(ModelExportRow, ModelExportRow.id == PublishedFileRow.export_id)
        .where(PublishedFileRow.digest == digest)
        .order_by(PublishedFileRow.id.desc())
    )
    found = session.execute(query).all()
    versions = {p.id: p for p in model_versions(session)} if found else {}
    return [
        (versions[row.model_version_id], _exported(export) if export else None)
        for row, export in found
        if row.model_version_id in versions
    ]


def files_of(session: Session, version_ids: Iterable[int]) -> dict[str, int]:
    """Return the SHA-256 (hex) of every recorded file of the given versions, each with its version's id."""
    query = select(PublishedFileRow.digest, PublishedFileRow.model_version_id).where(
        PublishedFileRow.model_version_id.in_(list(version_ids)),
        PublishedFileRow.digest.startswith("sha256:"),
    )
    return {digest.removeprefix("sha256:"): version for digest, version in session.execute(query)}


def add_data_export(session: Session, export_id: str, dataset_id: int, version: int, path: str) -> None:
    """Record a sanitized dataset export, before it is written."""
    newest = newest_number(session, dataset_id)
    session.add(DataExportRow(id=export_id, dataset_id=dataset_id, version=version, newest=newest, path=path))
    session.flush()


def drop_data_export(session: Session, export_id: str) -> None:
    """Delete the record of a sanitized dataset export that no longer exists."""
    session.execute(delete(DataExportRow).where(DataExportRow.id == export_id))


def data_exports(session: Session, dataset_id: int, versions: Iterable[int]) -> list[dict[str, Any]]:
    """Return the sanitized exports of dataset versions: ``{path, dataset_version, created}``."""
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
    """Return the sanitized exports that hold samples erased after they were written."""
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
    """Return, for each model version id, the requests that later erased some of its training data.

    A version made by a request, or newer than the request's erasure, was not trained on the erased data.
    Where the catalog has forgotten the rows, the request's record names the models that it changed.
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
    versions = model_versions(
        session
    )  # first: what another process publishes meanwhile has a date in any case
    created = dict(session.execute(select(ModelVersionRow.id, ModelVersionRow.created)).all())
    seen: dict[int, tuple[str, ...]] = {}
    made_for: dict[str, set[str]] = {}  # by model: requests for which this or an earlier version was made
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
    """Record a purge: its time, and counts by kind and by request, without paths."""
    session.add(PurgeRow(plan=plan, summary=summary, created=at))
    session.flush()


def purges(session: Session, request_id: str | None = None) -> list[dict[str, Any]]:
    """Return the recorded purges, oldest first: ``{plan, created, kinds: {kind: {files, bytes}}, …}``.

    Args:
        session: A session on the catalog.
        request_id: Only purges that concern this request; the numbers of each kind then count only its data.
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
    """Return the requests that erased samples of a version, also where the rows were forgotten."""
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
    """Return (arrived, removed, request id) of forgotten rows, by dataset id and model name."""
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


def _exported(row: ModelExportRow) -> ModelExport:
    own = ("created", "removed")
    values = {key: getattr(row, key) for key in ModelExport.__annotations__ if key not in own}
    return ModelExport(
        created=row.created.isoformat(timespec="seconds"), removed=row.removed is not None, **values
    )
