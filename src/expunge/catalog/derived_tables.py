# SPDX-License-Identifier: Apache-2.0
"""Tables of what was derived from models and data: exports, purges, decisions about near-duplicates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from expunge.catalog.tables import Base, now


class ModelExportRow(Base):
    """A model version in another format; ``difference``: the largest one from the weights, on real images."""

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
    """A digest by which ``status`` knows a file of a model version, also when the file here is gone.

    ``digest``: ``sha256:`` over a file's bytes, or ``tensors:`` over the tensors of one file of an ensemble.
    """

    __tablename__ = "published_file"
    __table_args__ = (Index("published_file_digest", "digest"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"))
    export_id: Mapped[int | None] = mapped_column(ForeignKey("model_export.id"))
    digest: Mapped[str] = mapped_column(String(80))


class DataExportRow(Base):
    """A sanitized tree that was written from a version.

    ``id`` is also in the tree's marker file; ``newest`` is the number of the dataset's newest version then:
    what an erasure took out later is still in the tree.
    """

    __tablename__ = "data_export"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    version: Mapped[int]
    newest: Mapped[int]
    path: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


class DuplicateDecisionRow(Base):
    """A person's decision about a pair of samples, by their row ids (the smaller first): same or different.

    No foreign keys: that a row of the catalog may be forgotten must not depend on a decision about it.
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
    """One purge: what was deleted, by kind and request, and no path. ``plan``: digest of the dry run."""

    __tablename__ = "purge"
    id: Mapped[int] = mapped_column(primary_key=True)
    plan: Mapped[str] = mapped_column(String(80))
    summary: Mapped[dict[str, Any]]
    created: Mapped[datetime] = mapped_column(default=now)
