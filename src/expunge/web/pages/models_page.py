# SPDX-License-Identifier: Apache-2.0
"""Pages for models with their lineage, and for datasets with their versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from expunge.web import queries
from expunge.web.auth.access import Identity, allowed, workspace_of
from expunge.web.pages import drawing
from expunge.web.pages.view import page

router = APIRouter()
Viewer = Annotated[Identity, Depends(allowed("desk.view"))]


@router.get("/models")
def models(request: Request, me: Viewer) -> Response:
    """Show all models."""
    return page(request, "models", active="models", models=queries.models(workspace_of(request)))


@router.get("/models/{name}")
def model(request: Request, name: str, me: Viewer) -> Response:
    """Show a model with its versions and their lineage."""
    found = queries.model(workspace_of(request), name)
    return page(
        request,
        "model",
        active="models",
        model=found,
        marked=name if "@" in name else None,
        drawing=drawing.lineage(found["versions"]),
    )


@router.get("/datasets")
def datasets(request: Request, me: Viewer) -> Response:
    """Show all datasets."""
    return page(request, "datasets", active="datasets", datasets=queries.datasets(workspace_of(request)))


@router.get("/datasets/{name}")
def dataset(request: Request, name: str, me: Viewer) -> Response:
    """Show the counts and versions of a dataset, without ids."""
    workspace = workspace_of(request)
    found, people = queries.dataset(workspace, name), queries.subjects(workspace, name)
    return page(request, "dataset", active="datasets", d=found, people=people)
