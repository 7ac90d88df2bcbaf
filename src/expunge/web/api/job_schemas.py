# SPDX-License-Identifier: Apache-2.0
"""Request and response schemas of the job routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from expunge.web.api.schemas import RequestRef, Taken


class RunRequests(Taken):
    """A job that executes the given requests together."""

    kind: Literal["run"]
    requests: list[RequestRef] = Field(min_length=1, max_length=1000)


class RunDue(Taken):
    """A job that executes all requests that must be executed now to be answered in time."""

    kind: Literal["run-due"]


Run = Annotated[RunRequests | RunDue, Field(discriminator="kind")]


class JobShown(BaseModel):
    """A job with its progress and result."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(examples=["j-0c1d2e3f4a5b6978"])
    kind: str
    parameters: dict[str, Any]
    state: Literal["queued", "running", "done", "failed"]
    account: str = Field(description="The account that submitted it.")
    attempts: int = Field(
        description="Number of worker processes that have run it; more than one after crashes."
    )
    progress: dict[str, Any] | None = Field(
        description="label, done, total, seconds_left, line; null if nothing is known.",
        examples=[{"label": "repairing m", "done": 120, "total": 400, "seconds_left": 31.5}],
    )
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created: str
    started: str | None
    heartbeat: str | None
    finished: str | None
