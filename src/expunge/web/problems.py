# SPDX-License-Identifier: Apache-2.0
"""Errors over HTTP as problem details (RFC 9457): what happened, why, and what to do next.

A response repeats the client's input only where the error's text does, and it holds no path of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from expunge.errors import (
    BusyError,
    Conflict,
    EnvironmentChanged,
    ExpungeError,
    InputError,
    NotFound,
    Preempted,
    StorageError,
)
from expunge.web.auth.attempts import TooMany

MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[ExpungeError], int] = {  # the most specific class decides
    NotFound: 404,
    Conflict: 409,
    InputError: 422,
    BusyError: 409,
    EnvironmentChanged: 409,
    Preempted: 409,
    StorageError: 503,
    TooMany: 429,
}
WORDS = {
    400: ("The body cannot be read.", "Send JSON, in UTF-8."),
    404: ("There is nothing here.", "Check the address."),
    405: ("This address does not support that method.", "See the API's description."),
    413: ("That is too large.", "Send less."),
}


class Field_(BaseModel):
    """An invalid part of a request."""

    model_config = ConfigDict(title="Field")
    field: str = Field(description="Its location.", examples=["body.subjects"])
    reason: str = Field(description="What is wrong with it.", examples=["Field required"])


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(default="about:blank", description="The type of problem, always about:blank.")
    title: str = Field(description="What went wrong.", examples=["There is no request 'r-0'."])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(default="", description="The cause, if known.")
    next: str = Field(default="", description="What you can do about it.")
    fields: list[Field_] = Field(default_factory=list, description="The invalid parts of the request.")


class HttpProblem(Exception):
    """A problem that exists only over HTTP, with headers for the response."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        next: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(title)
        self.problem = Problem(title=title, status=status, detail=detail, next=next)
        self.headers = dict(headers or {})


def not_signed_in() -> HttpProblem:
    """Return the problem for a request without a valid session or token."""
    return HttpProblem(
        401,
        "You are not signed in.",
        "The session or the token is missing, or it ended.",
        "Sign in, or send a token: Authorization: Bearer …",
        {"WWW-Authenticate": 'Bearer realm="expunge"'},
    )


def not_allowed(permission: str) -> HttpProblem:
    """Return the problem for a user without a permission."""
    return HttpProblem(
        403, "You may not do that.", f"It requires the permission {permission}.", "Ask an admin for it."
    )


def problem_of(error: ExpungeError, server_path: str = "") -> Problem:
    """Return an error as a problem, with the workspace's path replaced by ``.expunge``."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    what, why, then = (
        text.replace(server_path, ".expunge") if server_path else text
        for text in (error.what, error.why, error.next_step)
    )
    return Problem(title=what, status=status, detail=why, next=then)


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a problem as a JSON response."""
    return JSONResponse(problem.model_dump(), problem.status, dict(headers or {}), MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI declaration of the problems with the given statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Install handlers that turn every error of the application into a problem."""

    async def of_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ExpungeError)
        headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooMany) else {}
        root = str(request.app.state.workspace.root)
        return await _respond(request, problem_of(error, root), headers)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title, then = WORDS.get(error.status_code, (HTTPStatus(error.status_code).phrase + ".", ""))
        problem = Problem(title=title, status=error.status_code, next=then)
        return await _respond(request, problem, error.headers or {})

    async def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, HttpProblem)
        return await _respond(request, error.problem, error.headers)

    async def of_input(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = [
            Field_(field=".".join(str(part) for part in e["loc"]), reason=e["msg"]) for e in error.errors()
        ]
        problem = Problem(
            title="The request is invalid.", status=422, detail="Parts of it are missing or wrong.",
            next="See the API's description.", fields=fields,
        )  # fmt: skip
        return await _respond(request, problem, {})

    app.add_exception_handler(ExpungeError, of_error)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(HttpProblem, of_problem)
    app.add_exception_handler(RequestValidationError, of_input)


async def _respond(request: Request, problem: Problem, headers: Mapping[str, str]) -> Response:
    """Return a problem as JSON below ``/api`` and as a page elsewhere."""
    page = getattr(request.app.state, "problem_page", None)
    if page is None or request.url.path.startswith("/api/"):
        return answer(problem, headers)
    response: Response = await run_in_threadpool(page, request, problem)
    response.headers.update(headers)
    return response
