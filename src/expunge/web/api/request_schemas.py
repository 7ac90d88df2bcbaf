# SPDX-License-Identifier: Apache-2.0
"""Request and response schemas of the erasure request routes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from expunge.catalog import states
from expunge.web.api.schemas import Ref, RequestRef, Taken, Text

Ground = StrEnum("Ground", {name: name for name in states.GROUNDS})  # type: ignore[misc]
Refusal = StrEnum("Refusal", {name: name for name in states.REFUSALS})  # type: ignore[misc]
Extension = StrEnum("Extension", {name: name for name in states.EXTENSIONS})  # type: ignore[misc]
WhyNot = StrEnum("WhyNot", {name: name for name in ("impossible", "disproportionate")})  # type: ignore[misc]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", examples=["2026-05-04"])]
Moment = Annotated[
    str,
    Field(
        max_length=40,
        pattern=r"^\d{4}-\d{2}-\d{2}(T[0-9:.]+(Z|[+-]\d{2}:\d{2})?)?$",
        examples=["2026-05-04", "2026-05-04T09:30:00+02:00"],
    ),
]


class FileRequest(Taken):
    """An erasure request to file: its selection, options, date of receipt and legal ground."""

    subjects: list[Text] = Field(
        default_factory=list, max_length=1000, description="Ids of data subjects.", examples=[["s17"]]
    )
    samples: list[Text] = Field(
        default_factory=list, max_length=1000, description="Paths of samples, relative to the dataset's root."
    )
    class_name: Text | None = Field(default=None, description="All samples of a class.")
    dataset: Ref | None = Field(default=None, description="Dataset to search; required if several match.")
    models: list[Ref] = Field(
        default_factory=list, max_length=100, description="Only these models; empty: all."
    )
    method: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")] = Field(
        default="auto", description="auto, exact, retrain, or an approximate method's name."
    )
    defer: bool = Field(default=False, description="Publish the interim model, and repair it later.")
    received: Moment | None = Field(default=None, description="Time of receipt; null: now.")
    due: Day | None = Field(default=None, description="A due date earlier than the statutory one.")
    ground: Ground | None = Field(default=None, description="Ground under GDPR article 17(1).")
    recipients: list[Text] = Field(
        default_factory=list, max_length=100, description="Recipients of the data who must be informed."
    )
    note: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None, description="Free text, erased when the request is closed."
    )

    @model_validator(mode="after")
    def _check_selection(self) -> FileRequest:
        if not (self.subjects or self.samples or self.class_name):
            raise ValueError("name subjects, samples or a class")
        return self


class Refuse(Taken):
    """A refusal, or the record that the person was informed of it."""

    reason: Refusal | None = Field(default=None, description="Required for the refusal itself.")
    told: Day | None = Field(
        default=None, description="Date on which the person was informed; closes the request."
    )
    note: Annotated[str, Field(max_length=2000)] | None = None


class Extend(Taken):
    """An extension of the due date. The person must have been informed in time."""

    reason: Extension
    told: Day
    months: Annotated[int, Field(ge=1, le=12)] | None = Field(
        default=None, description="Number of further months; null: the maximum."
    )


class Recipient(Taken):
    """A recipient of the data, with the date on which they were informed of the erasure, or why not."""

    name: Text
    on: Day | None = Field(default=None, description="Date on which they were informed; null: today.")
    why_not: WhyNot | None = None


class Article(BaseModel):
    """A legal ground or reason."""

    name: str
    article: str = Field(examples=["17(1)(b)"])


class Told(BaseModel):
    """A recorded recipient: date of notification, or why there was none."""

    name: str
    told: str | None
    why_not: str | None


class OnHold(BaseModel):
    """A model whose results were rejected as often as allowed, so that a person must decide."""

    model: str
    requests: list[RequestRef] = Field(description="Requests that wait for the model.")
    method: str
    attempts: int
    reason: str
    next: str


class RequestDetail(BaseModel):
    """A request in the queue."""

    request: RequestRef
    state: states.State
    dataset: str
    received: str
    due: str = Field(description="Deadline for the answer.")
    run_by: str = Field(description="Latest time for executing it, so that the evidence is ready in time.")
    days_left: int | None
    overdue: bool
    remind: bool
    reminders: list[str]
    samples: int
    subjects: int
    models: list[str]
    method: str
    defer: bool
    opened_by: str | None
    ground: Article | None
    extension: dict[str, Any] | None
    refusal: dict[str, Any] | None
    recipients: list[Told]
    held: list[OnHold]
    certified: bool


class Event(BaseModel):
    """An event of a request. ``from`` equals ``to`` if the state did not change."""

    source: str | None = Field(alias="from")
    to: str
    at: str
    actor: str
    reason: str | None
    detail: dict[str, Any] | None


class Story(RequestDetail):
    """A request from its receipt to its certificate."""

    events: list[Event]
    version_before: int
    version_after: int | None
    class_request: bool = Field(description="Whether it selects a class, not people or samples.")
    settings: dict[str, Any]
    outcome: list[dict[str, Any]] | None = Field(description="Result for each model; null before the run.")
    originals_left: int | None
    audits: list[dict[str, Any]]
    can: list[str] = Field(description="Actions that the state allows; each needs its permission.")
    four_eyes: bool
    next: str = Field(description="The next step, with commands; empty if nothing is left to do.")


class Filed(BaseModel):
    """The result of filing a request."""

    request: RequestRef
    state: states.State
    due: str | None = Field(description="Null if everything was erased before.")
    samples: int | None
    subjects: int | None
    models: list[str]
    already_erased_by: list[str] = Field(description="Earlier requests that erased some or all of it.")
    reused: bool = Field(description="Whether the idempotency key was used before, for this request.")


class Selection(BaseModel):
    """The selection of a request. It is empty once the request is closed and the selection erased."""

    request: RequestRef
    forgotten: bool
    subjects: list[str]
    samples: list[str]
    listed: list[str]
    class_name: str | None
    note: str | None


class Scope(BaseModel):
    """The expected effect of executing a request."""

    dataset: str
    samples: int
    subjects: int
    erased_before: list[str]
    models: list[dict[str, Any]] = Field(description="Models with their affected samples and predicted cost.")
