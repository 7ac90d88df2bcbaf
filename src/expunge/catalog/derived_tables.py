# SPDX-License-Identifier: Apache-2.0
"""Tables of exports, published files, purges and decisions about near-duplicates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from expunge.catalog.tables import Base, now


class ModelExportRow(Base):
    """An export of a model version in another format.

    ``difference``: largest difference of its outputs from those of the weights, on real images.
    """

    __tablename__ = "model_export"
    id: Mapped[int] = mapped_column(primary_key=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"))
    format: Mapped[str] = mapped_column(String(20))
    path: Mapped[str]
    size_bytes: Mapped[int]
    images: Mapped[int]
    difference: Mapped[float]
    tolerance: Mapped[float]
    created: Mapped[datetime] = mapped_column(default=now)
    removed: Mapped[datetime | None]


class PublishedFileRow(Base):
    """A digest by which ``status`` recognises a file of a model version, even if the file was deleted here.

    ``digest``: ``sha256:`` over a file's bytes, or ``tensors:`` over the tensors of one file of an ensemble.
    """

    __tablename__ = "published_file"
    __table_args__ = (Index("published_file_digest", "digest"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"))
    export_id: Mapped[int | None] = mapped_column(ForeignKey("model_export.id"))
    digest: Mapped[str] = mapped_column(String(80))


class DataExportRow(Base):
    """A sanitized export of a dataset version.

    ``id``: also stored in the export's marker file. ``newest``: number of the dataset's newest version when
    the export was written; samples erased by later versions are still in the export.
    """

    __tablename__ = "data_export"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    version: Mapped[int]
    newest: Mapped[int]
    path: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


class DuplicateDecisionRow(Base):
    """A user's decision about a pair of samples, given by row ids (the smaller first): same or different.

    There are no foreign keys, so that a decision never prevents the deletion of a sample row.
    """

    __tablename__ = "duplicate_decision"
    __table_args__ = (UniqueConstraint("first", "second"), Index("duplicate_decision_second", "second"))
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    first: Mapped[int]
    second: Mapped[int]
    decision: Mapped[str] = mapped_column(String(10))
    created: Mapped[datetime] = mapped_column(default=now)


class PurgeRow(Base):
    """A purge: counts of deleted files by kind and request, no paths. ``plan``: digest of the dry run."""

    __tablename__ = "purge"
    id: Mapped[int] = mapped_column(primary_key=True)
    plan: Mapped[str] = mapped_column(String(80))
    summary: Mapped[dict[str, Any]]
    created: Mapped[datetime] = mapped_column(default=now)
