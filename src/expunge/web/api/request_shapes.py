# SPDX-License-Identifier: Apache-2.0
"""What the routes of requests take and give."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from expunge.catalog import states
from expunge.web.api.shapes import Ref, RequestRef, Taken, Text

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
    """An erasure request: who or what is to be forgotten, and when and why it came."""

    subjects: list[Text] = Field(
        default_factory=list, max_length=1000, description="Ids of data subjects.", examples=[["s17"]]
    )
    samples: list[Text] = Field(
        default_factory=list, max_length=1000, description="Paths of samples, relative to the dataset's root."
    )
    class_name: Text | None = Field(default=None, description="All samples of a class.")
    dataset: Ref | None = Field(default=None, description="Where to look; needed if several have the id.")
    models: list[Ref] = Field(default_factory=list, max_length=100, description="Only these; none: all.")
    method: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")] = Field(
        default="auto", description="auto, exact, retrain, or an approximate method's name."
    )
    defer: bool = Field(default=False, description="Publish the interim model, and repair it later.")
    received: Moment | None = Field(default=None, description="When the request came; null: now.")
    due: Day | None = Field(default=None, description="An earlier due date than the law's.")
    ground: Ground | None = Field(default=None, description="Of GDPR article 17(1).")
    recipients: list[Text] = Field(
        default_factory=list, max_length=100, description="Who received the data, and is still to be told."
    )
    note: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None, description="Free text, erased when the request is closed."
    )

    @model_validator(mode="after")
    def _something(self) -> FileRequest:
        if not (self.subjects or self.samples or self.class_name):
            raise ValueError("name subjects, samples or a class")
        return self


class Refuse(Taken):
    """A refusal, or that the person was told of one."""

    reason: Refusal | None = Field(default=None, description="Needed for the refusal itself.")
    told: Day | None = Field(default=None, description="When the person was told; this closes the request.")
    note: Annotated[str, Field(max_length=2000)] | None = None


class Extend(Taken):
    """A later due date, of which the person was told in time."""

    reason: Extension
    told: Day
    months: Annotated[int, Field(ge=1, le=12)] | None = Field(
        default=None, description="Further months; null: as many as may be."
    )


class Recipient(Taken):
    """Somebody who had received the data, and when they were told of the erasure, or why not."""

    name: Text
    on: Day | None = Field(default=None, description="When they were told; null: today.")
    why_not: WhyNot | None = None


class Article(BaseModel):
    """A reason that the law knows."""

    name: str
    article: str = Field(examples=["17(1)(b)"])


class Told(BaseModel):
    """A recipient on record."""

    name: str
    told: str | None
    why_not: str | None


class OnHold(BaseModel):
    """A model whose unlearning was turned down as often as it may be: a person must decide."""

    model: str
    requests: list[RequestRef] = Field(description="Those that wait for it.")
    method: str
    attempts: int
    reason: str
    next: str


class Shown(BaseModel):
    """A request in the queue."""

    request: RequestRef
    state: states.State
    dataset: str
    received: str
    due: str = Field(description="The last moment at which it can be answered in time.")
    run_by: str = Field(description="Until when it must be executed, for the evidence to be there in time.")
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
    """Something that happened to a request; ``from`` equals ``to`` where its state stayed."""

    source: str | None = Field(alias="from")
    to: str
    at: str
    actor: str
    reason: str | None
    detail: dict[str, Any] | None


class Story(Shown):
    """A request from its receipt to its certificate."""

    events: list[Event]
    version_before: int
    version_after: int | None
    class_request: bool = Field(description="Whether it asks for a class, not for people or samples.")
    settings: dict[str, Any]
    outcome: list[dict[str, Any]] | None = Field(description="For each model what was done; null: not yet.")
    originals_left: int | None
    audits: list[dict[str, Any]]
    can: list[str] = Field(description="What may be done next, by whoever has the right.")
    four_eyes: bool
    next: str = Field(description="What to do next, with the commands; empty: nothing is left.")


class Filed(BaseModel):
    """What became of a request that was filed."""

    request: RequestRef
    state: states.State
    due: str | None = Field(description="Null: all was erased before.")
    samples: int | None
    subjects: int | None
    models: list[str]
    already_erased_by: list[str] = Field(description="The requests that erased some or all of it before.")
    reused: bool = Field(description="The idempotency key was used before: this is that request.")


class Selection(BaseModel):
    """What a request asks for; null fields once it is closed and forgotten."""

    request: RequestRef
    forgotten: bool
    subjects: list[str]
    samples: list[str]
    listed: list[str]
    class_name: str | None
    note: str | None


class Scope(BaseModel):
    """What executing a request would do."""

    dataset: str
    samples: int
    subjects: int
    erased_before: list[str]
    models: list[dict[str, Any]] = Field(description="Each with what it saw, and the predicted cost.")
