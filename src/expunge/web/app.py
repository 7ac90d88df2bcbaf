# SPDX-License-Identifier: Apache-2.0
"""The FastAPI application: one workspace, the server's settings, and the routes of API and pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from expunge.web import api, openapi, pages, problems
from expunge.web.auth.access_log import AccessLog
from expunge.web.guard import Guard
from expunge.web.jobs.supervisor import Supervisor

if TYPE_CHECKING:
    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace

STATIC = Path(__file__).parent / "static"
DESCRIPTION = """The desk of a data-protection officer, for programs: file erasure requests, follow them, and
fetch and verify the evidence. Errors are problem details (RFC 9457). Lists are paged: pass `next` of one
response as `cursor` of the next call. See docs/serve.md."""


def create_app(workspace: Workspace, settings: ServerSettings) -> FastAPI:
    """Return the application.

    Args:
        workspace: The workspace to serve.
        settings: The server's settings.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.trail.start()
        if settings.workers:
            app.state.supervisor.start()
        yield
        app.state.supervisor.stop()
        app.state.trail.stop()

    app = FastAPI(
        title="expunge",
        version=version("expunge"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from other hosts
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.workspace, app.state.settings = workspace, settings
    app.state.trail, app.state.supervisor = AccessLog(workspace), Supervisor(workspace)
    app.state.problem_page = getattr(pages, "problem_page", None)
    problems.install(app)
    openapi.install(app)
    app.include_router(api.router)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, settings=settings)
    return app
