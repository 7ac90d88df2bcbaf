# SPDX-License-Identifier: Apache-2.0
"""Tables of the catalog. Every change needs a migration under ``migrations/versions``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Moment(TypeDecorator[datetime]):
    """A column type for times: stored in UTC without a zone, which every database supports; read as UTC."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored value. A time without a zone is taken as UTC."""
        if value is None or value.tzinfo is None:
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored time, in UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Base class of all tables."""

    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads the attribute)
        dict[str, Any]: JSON,
        list[str]: JSON,
        datetime: Moment,
    }


class DatasetRow(Base):
    """A dataset: a named collection of samples in a folder of the user."""

    __tablename__ = "dataset"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(20))
    root: Mapped[str]
    config: Mapped[dict[str, Any]]
    created: Mapped[datetime] = mapped_column(default=now)


class DatasetRootRow(Base):
    """A present or former folder of a dataset. Rows are never deleted: originals may still be there."""

    __tablename__ = "dataset_root"
    __table_args__ = (UniqueConstraint("dataset_id", "path"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    path: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


class VersionRow(Base):
    """An immutable dataset version. Its rows are the samples with arrived <= number < removed.

    ``root``: Merkle root of the salted commitments of its rows, once computed. ``digest``: manifest digest;
    empty once the catalog has forgotten a row of the version, because guesses could be tested against it.
    """

    __tablename__ = "version"
    __table_args__ = (UniqueConstraint("dataset_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    number: Mapped[int]
    parent: Mapped[int | None]
    request_id: Mapped[str | None] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    root: Mapped[str | None] = mapped_column(String(64))
    config: Mapped[dict[str, Any]]
    samples: Mapped[int]
    subjects: Mapped[int]
    created: Mapped[datetime] = mapped_column(default=now)


class SampleRow(Base):
    """A sample: an image with its label. ``removed``: first version without it. ``removal``: the reason."""

    __tablename__ = "sample"
    __table_args__ = (
        Index("sample_path", "dataset_id", "path"),
        Index("sample_image", "image_digest"),
        Index(
            "sample_request",
            "request_id",
            sqlite_where=text("request_id IS NOT NULL"),
            postgresql_where=text("request_id IS NOT NULL"),
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    path: Mapped[str]
    split: Mapped[str] = mapped_column(String(10))
    image_digest: Mapped[str] = mapped_column(String(64))
    label_digest: Mapped[str] = mapped_column(String(64))
    class_name: Mapped[str | None]
    public: Mapped[bool] = mapped_column(default=False)
    arrived: Mapped[int]
    removed: Mapped[int | None]
    removal: Mapped[str | None] = mapped_column(String(10))  # erased | gone | changed
    request_id: Mapped[str | None] = mapped_column(String(64))
    salt: Mapped[bytes | None] = mapped_column(LargeBinary)  # 32 random bytes


class OpaqueLeaf(Base):
    """The commitment of a forgotten sample row. Its salt was deleted with the row.

    It replaces the row in the manifests of the versions arrived <= number < removed.
    """

    __tablename__ = "opaque_leaf"
    __table_args__ = (Index("opaque_leaf_request", "request_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    request_id: Mapped[str] = mapped_column(String(64))
    leaf: Mapped[bytes] = mapped_column(LargeBinary)
    arrived: Mapped[int]
    removed: Mapped[int]


class SubjectRow(Base):
    """A data subject of one dataset. ``name``: its pseudonymous id."""

    __tablename__ = "subject"
    __table_args__ = (UniqueConstraint("dataset_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    name: Mapped[str]
    risk: Mapped[float | None]


class SampleSubjectRow(Base):
    """A pair of a sample and a subject. ``groups``: values from the user's table for the pair."""

    __tablename__ = "sample_subject"
    __table_args__ = (Index("sample_subject_subject", "subject_id"),)
    sample_id: Mapped[int] = mapped_column(ForeignKey("sample.id"), primary_key=True)
    subject_id: Mapped[int] = mapped_column(ForeignKey("subject.id"), primary_key=True)
    groups: Mapped[dict[str, Any] | None]


class SuppressionRow(Base):
    """An entry of the suppression list: HMAC of an erased value under the workspace's secret."""

    __tablename__ = "suppression"
    __table_args__ = (Index("suppression_mac", "mac"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))  # subject | sample (path) | image | decoded (pixels)
    mac: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)


class PlanRow(Base):
    """A training plan, which is stored in a file."""

    __tablename__ = "plan"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    path: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


class ModelRow(Base):
    """A named model.

    ``dataset_id``, ``dataset_version``, ``plan_digest``: of the latest erasable training, published or not.
    """

    __tablename__ = "model"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    task: Mapped[str] = mapped_column(String(20))
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("dataset.id"))
    dataset_version: Mapped[int | None]
    plan_digest: Mapped[str | None] = mapped_column(ForeignKey("plan.digest"))
    created: Mapped[datetime] = mapped_column(default=now)


class ModelVersionRow(Base):
    """A model version: a published set of weights.

    ``state``: current | interim | superseded. ``composition``: for each shard, the last finished stage that
    is merged in; for an adopted model, the requests that it has forgotten and the epochs of a retrain.
    ``retained_digest``: digest of the sample rows on which the weights depend. ``parts``: for an ensemble,
    the digest of each file, so that a single file can be recognised. ``judged``: verdict and audit of an
    unlearned result. ``withdrawn``: the request that withdrew the version, because its start, or another file
    with the same tensors, was trained on data that the request erased.
    """

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("model_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    number: Mapped[int]
    parent: Mapped[int | None]
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    dataset_version: Mapped[int]
    retained_digest: Mapped[str] = mapped_column(String(64))
    samples: Mapped[int]
    subjects: Mapped[int]
    plan_digest: Mapped[str | None] = mapped_column(ForeignKey("plan.digest"))
    method: Mapped[str] = mapped_column(String(40))
    guarantee: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(80))
    parts: Mapped[list[str] | None]
    weights: Mapped[str]
    composition: Mapped[dict[str, Any] | None]
    metrics: Mapped[dict[str, Any] | None]
    cost: Mapped[dict[str, Any] | None]
    cpu_seconds: Mapped[float] = mapped_column(default=0.0)
    request_id: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)
    judged: Mapped[dict[str, Any] | None]
    withdrawn: Mapped[str | None] = mapped_column(String(64))


class StartRow(Base):
    """A digest of the weights from which a plan's trainings, or an adopted model, started.

    A start has one row for its tensors, one for its tensors rounded to fp16, and one for each earlier start
    in its training record.
    """

    __tablename__ = "weights_start"
    __table_args__ = (Index("weights_start_digest", "digest"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    plan_digest: Mapped[str | None] = mapped_column(ForeignKey("plan.digest"))
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    digest: Mapped[str] = mapped_column(String(80))


class TrainedOnRow(Base):
    """A model version that was trained on data erased by a request. Written at the erasure, never changed."""

    __tablename__ = "model_version_saw"
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(64), primary_key=True)


class CheckpointRow(Base):
    """The full training state at the end of a stage. ``key``: digest of everything that it depends on."""

    __tablename__ = "checkpoint"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    phase: Mapped[str] = mapped_column(String(10))  # public | shard | polish
    shard: Mapped[int]
    stage: Mapped[int]
    path: Mapped[str]
    size_bytes: Mapped[int]
    digest: Mapped[str] = mapped_column(String(80))
    fingerprint: Mapped[dict[str, Any]]
    cpu_seconds: Mapped[float]
    images: Mapped[int]
    created: Mapped[datetime] = mapped_column(default=now)


# Sort order of the queue. The database uses the index only for queries with these exact expressions.
IS_CLOSED = "(CASE WHEN state = 'closed' THEN 1 ELSE 0 END)"
DUE_AT = "COALESCE(due, received)"


class RequestRow(Base):
    """An erasure request: selection, dates, state, and the result for each model.

    ``state``: see :class:`expunge.catalog.states.State`. ``selection``: counts, the models concerned and the
    options; until the request is closed, ``asked`` in it holds the selectors. ``note``: free text of the
    officer, which enters no event, log or certificate. ``extension``, ``refusal``, ``recipients``: decisions
    and notifications (GDPR articles 12(3), 12(4), 19). ``key_mac``, ``body_mac``: keyed digests of the
    idempotency key and of the parameters that came with it.
    """

    __tablename__ = "request"
    __table_args__ = (
        Index("request_key", "key_mac", unique=True),
        Index("request_state", "state", "due"),
        Index("request_queue", text(IS_CLOSED), text(DUE_AT), "id"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    state: Mapped[str] = mapped_column(String(20))
    method: Mapped[str] = mapped_column(String(40))
    selection: Mapped[dict[str, Any]]
    version_before: Mapped[int]
    version_after: Mapped[int | None]
    result: Mapped[dict[str, Any] | None]
    received: Mapped[datetime] = mapped_column(default=now)
    due: Mapped[datetime | None]
    opened_by: Mapped[str | None] = mapped_column(String(200))
    ground: Mapped[str | None] = mapped_column(String(40))
    note: Mapped[str | None] = mapped_column(Text)
    extension: Mapped[dict[str, Any] | None]
    refusal: Mapped[dict[str, Any] | None]
    recipients: Mapped[dict[str, Any] | None]
    key_mac: Mapped[str | None] = mapped_column(String(64))
    body_mac: Mapped[str | None] = mapped_column(String(64))
    finished: Mapped[datetime | None]


class RequestEventRow(Base):
    """A transition of a request, or a note about it (``source`` equals ``target``).

    ``detail``: small, without personal data: versions, models, dates, ids of other requests. ``told``: the
    event was written to the log. No other column ever changes.
    """

    __tablename__ = "request_event"
    __table_args__ = (
        Index("request_event_request", "request_id"),
        Index("request_event_untold", "id", sqlite_where=text("NOT told"), postgresql_where=text("NOT told")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("request.id"))
    source: Mapped[str | None] = mapped_column(String(20))
    target: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[dict[str, Any] | None]
    told: Mapped[bool] = mapped_column(default=False, server_default=false())
