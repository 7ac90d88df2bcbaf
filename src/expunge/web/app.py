# SPDX-License-Identifier: Apache-2.0
"""The application: one workspace, what the server was started with, and the routes of API and pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from expunge.web import api, openapi, pages, problems
from expunge.web.guard import Guard
from expunge.web.supervisor import Supervisor
from expunge.web.trail import Trail

if TYPE_CHECKING:
    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace

STATIC = Path(__file__).parent / "static"
DESCRIPTION = """The desk of a data-protection officer, for programs: file erasure requests, follow them, and
fetch and verify the evidence. Errors are problem details (RFC 9457). Lists are paged: pass `next` of one
answer as `cursor` of the next call. See docs/serve.md."""


def create_app(workspace: Workspace, settings: ServerSettings) -> FastAPI:
    """Make the application.

    Args:
        workspace: What is served.
        settings: What the server was started with.
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
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.workspace, app.state.settings = workspace, settings
    app.state.trail, app.state.supervisor = Trail(workspace), Supervisor(workspace)
    app.state.problem_page = getattr(pages, "problem_page", None)
    problems.install(app)
    openapi.install(app)
    app.include_router(api.router)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, settings=settings)
    return app
