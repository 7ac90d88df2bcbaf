# SPDX-License-Identifier: Apache-2.0
"""What the routes of long work take and give."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from expunge.web.api.shapes import RequestRef, Taken


class RunRequests(Taken):
    """Execute these requests together."""

    kind: Literal["run"]
    requests: list[RequestRef] = Field(min_length=1, max_length=1000)


class RunDue(Taken):
    """Execute what must be executed now for a request to be answered in time."""

    kind: Literal["run-due"]


Run = Annotated[RunRequests | RunDue, Field(discriminator="kind")]


class JobShown(BaseModel):
    """Long work: how far it is, and what came out of it."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(examples=["j-0c1d2e3f4a5b6978"])
    kind: str
    parameters: dict[str, Any]
    state: Literal["queued", "running", "done", "failed"]
    account: str = Field(description="Who wanted it.")
    attempts: int = Field(description="How many processes have worked on it; more than one: some died.")
    progress: dict[str, Any] | None = Field(
        description="label, done, total, seconds_left, line; null: nothing is known.",
        examples=[{"label": "repairing m", "done": 120, "total": 400, "seconds_left": 31.5}],
    )
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created: str
    started: str | None
    heartbeat: str | None
    finished: str | None
