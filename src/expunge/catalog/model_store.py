# SPDX-License-Identifier: Apache-2.0
"""Read and write models, their versions, plans and checkpoints in the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from expunge.catalog.names import parse_ref
from expunge.catalog.states import RUNNING_STATES
from expunge.catalog.tables import (
    CheckpointRow,
    DatasetRow,
    ModelRow,
    ModelVersionRow,
    PlanRow,
    RequestRow,
    now,
)
from expunge.errors import InputError, NotFound

WITHDRAW = "withdraw"  # used as a method for models that can only be withdrawn


@dataclass(frozen=True)
class ModelVersion:
    """A published model version, as a value (see :class:`~expunge.catalog.tables.ModelVersionRow`)."""

    id: int
    name: str
    task: str
    number: int
    parent: int | None
    dataset_id: int
    dataset: str
    dataset_version: int
    retained_digest: str
    samples: int
    subjects: int
    plan_digest: str | None
    method: str
    guarantee: str
    state: str
    digest: str
    parts: list[str] | None
    weights: str
    composition: dict[str, Any] | None
    metrics: dict[str, Any] | None
    cost: dict[str, Any] | None
    cpu_seconds: float
    request_id: str | None
    created: str
    judged: dict[str, Any] | None = None
    withdrawn: str | None = None

    @property
    def label(self) -> str:
        """``NAME@V``."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class UnfinishedRequest:
    """An accepted request with models that are not final yet."""

    id: str
    method: str
    selection: dict[str, Any]

    @property
    def models(self) -> list[str]:
        """Names of the models that the request concerns."""
        return list(self.selection["models"])


def ensure_model(session: Session, name: str, task: str) -> int:
    """Return the id of a model; create the model if it does not exist.

    Raises:
        InputError: If the model exists with another task.
    """
    row = session.scalar(select(ModelRow).where(ModelRow.name == name))
    if row is None:
        row = ModelRow(name=name, task=task)
        session.add(row)
        session.flush()
    elif row.task != task:
        raise InputError(
            f"The model {name!r} is for '{row.task}'.",
            f"These weights are for '{task}'.",
            "Choose another --name.",
        )
    return row.id


@dataclass(frozen=True)
class UnpublishedTraining:
    """The latest erasable training of a model, if no version of it was published."""

    model_id: int
    name: str
    dataset: str
    dataset_version: int
    plan_digest: str


def begin_training(
    session: Session, model_id: int, dataset_id: int, dataset_version: int, plan_digest: str
) -> None:
    """Record the dataset version and plan of a training that starts now."""
    session.execute(
        update(ModelRow)
        .where(ModelRow.id == model_id)
        .values(dataset_id=dataset_id, dataset_version=dataset_version, plan_digest=plan_digest)
    )


def unpublished_trainings(session: Session) -> list[UnpublishedTraining]:
    """Return the trainings without a published model: they were killed, or are still running."""
    published = {(p.name, p.dataset_id, p.dataset_version, p.plan_digest) for p in newest_versions(session)}
    query = select(ModelRow, DatasetRow.name).join(DatasetRow, DatasetRow.id == ModelRow.dataset_id)
    return [
        UnpublishedTraining(row.id, row.name, dataset, row.dataset_version, row.plan_digest)
        for row, dataset in session.execute(query)
        if row.dataset_version
        and row.plan_digest
        and (row.name, row.dataset_id, row.dataset_version, row.plan_digest) not in published
    ]


def find_model(session: Session, ref: str) -> ModelVersion:
    """Return the version ``NAME@V``, or the newest version of ``NAME``.

    Raises:
        NotFound: If it does not exist.
    """
    name, number = parse_ref(ref)
    query = _select_versions().where(ModelRow.name == name)
    query = query.where(ModelVersionRow.number == number) if number else query
    row = session.execute(query.order_by(ModelVersionRow.number.desc()).limit(1)).first()
    if row is None:
        known = ", ".join(p.label for p in newest_versions(session)) or "none yet"
        raise NotFound(
            f"There is no model {ref!r}.", f"Known models: {known}.", "See them with: expunge models"
        )
    return _as_published(row)


def model_versions(session: Session, name: str | None = None) -> list[ModelVersion]:
    """Return all model versions, or those of one model, oldest first."""
    query = _select_versions().order_by(ModelRow.name, ModelVersionRow.number)
    if name is not None:
        query = query.where(ModelRow.name == name)
    return [_as_published(row) for row in session.execute(query)]


def newest_versions(session: Session, dataset_id: int | None = None) -> list[ModelVersion]:
    """Return the newest version of every model, or of every model trained on one dataset."""
    found = {p.name: p for p in model_versions(session)}
    return [p for p in found.values() if dataset_id is None or p.dataset_id == dataset_id]


def by_digest(session: Session, digest: str) -> list[ModelVersion]:
    """Return the versions whose weights have this digest, newest first."""
    query = _select_versions().where(ModelVersionRow.digest == digest).order_by(ModelVersionRow.id.desc())
    return [_as_published(row) for row in session.execute(query)]


def by_part(session: Session, digest: str) -> list[ModelVersion]:
    """Return the ensembles that contain a file with this digest, newest first."""
    query = _select_versions().where(ModelVersionRow.parts.is_not(None)).order_by(ModelVersionRow.id.desc())
    return [_as_published(row) for row in session.execute(query) if digest in (row[0].parts or ())]


def next_number(session: Session, model_id: int) -> int:
    """Return the number of a model's next version."""
    query = select(func.max(ModelVersionRow.number)).where(ModelVersionRow.model_id == model_id)
    return (session.scalar(query) or 0) + 1


def publish(session: Session, model_id: int, **columns: Any) -> int:
    """Record a new version, mark all earlier ones superseded, and return the id of the new row."""
    supersede(session, model_id)
    row = ModelVersionRow(model_id=model_id, **columns)
    session.add(row)
    session.flush()
    return row.id


def supersede(session: Session, model_id: int) -> None:
    """Mark all versions of a model superseded."""
    session.execute(
        update(ModelVersionRow).where(ModelVersionRow.model_id == model_id).values(state="superseded")
    )


def withdraw(session: Session, version_id: int, request_id: str) -> None:
    """Mark a model's newest version withdrawn by a request, and all of its versions superseded."""
    row = session.get_one(ModelVersionRow, version_id)
    supersede(session, row.model_id)
    session.refresh(row)
    row.withdrawn = row.withdrawn or request_id
    session.flush()


def set_metrics(session: Session, name: str, number: int, metrics: dict[str, Any]) -> None:
    """Record the metrics of a version. They are measured after publication, which therefore need not wait."""
    ids = select(ModelRow.id).where(ModelRow.name == name).scalar_subquery()
    session.execute(
        update(ModelVersionRow)
        .where(ModelVersionRow.model_id == ids, ModelVersionRow.number == number)
        .values(metrics=metrics)
    )


def record_plan(session: Session, digest: str, path: str) -> None:
    """Record a plan unless it is recorded already. The path is relative to the workspace."""
    if session.get(PlanRow, digest) is None:
        session.add(PlanRow(digest=digest, path=path))
        session.flush()


def record_checkpoint(session: Session, **columns: Any) -> None:
    """Record a checkpoint, replacing an earlier record with the same key."""
    session.merge(CheckpointRow(**columns, created=now()))


def checkpoints(session: Session, model_id: int) -> Sequence[CheckpointRow]:
    """Return the recorded checkpoints of a model."""
    return session.scalars(select(CheckpointRow).where(CheckpointRow.model_id == model_id)).all()


def drop_checkpoints(session: Session, model_id: int, keys: Iterable[str]) -> None:
    """Delete the records of checkpoints whose files were deleted."""
    session.execute(
        delete(CheckpointRow).where(CheckpointRow.model_id == model_id, CheckpointRow.key.in_(list(keys)))
    )


def get_request(session: Session, request_id: str) -> RequestRow:
    """Return the row of a request.

    Raises:
        NotFound: If the id is unknown.
    """
    row = session.get(RequestRow, request_id)
    if row is None:
        raise NotFound(
            f"There is no request {request_id!r}.", "", "See the requests with: expunge request list"
        )
    return row


def unfinished_requests(session: Session) -> list[UnfinishedRequest]:
    """Return the accepted requests with models that are not final yet, oldest first."""
    query = select(RequestRow).where(
        RequestRow.state.in_(RUNNING_STATES), RequestRow.version_after.is_not(None)
    )
    query = query.order_by(RequestRow.received, RequestRow.version_after)
    return [UnfinishedRequest(row.id, row.method, dict(row.selection)) for row in session.scalars(query)]


def last_accepted(session: Session, name: str) -> ModelVersion:
    """Return an adopted model's newest accepted version: with a guarantee, or the adopted one itself."""
    accepted = [p for p in model_versions(session, name) if p.guarantee != "none" or p.method == "adopt"]
    return accepted[-1]


def _select_versions() -> Any:
    return (
        select(ModelVersionRow, ModelRow.name, ModelRow.task, DatasetRow.name)
        .join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        .join(DatasetRow, DatasetRow.id == ModelVersionRow.dataset_id)
    )


def _as_published(row: Any) -> ModelVersion:
    version, name, task, dataset = row
    own = {c.key: getattr(version, c.key) for c in ModelVersionRow.__table__.columns}
    own.pop("model_id")
    own["created"] = own["created"].isoformat(timespec="seconds")
    return ModelVersion(name=name, task=task, dataset=dataset, **own)
