# SPDX-License-Identifier: Apache-2.0
"""Models with their lineage drawn, and datasets with their versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from expunge import desk
from expunge.web.pages import drawing
from expunge.web.pages.view import page
from expunge.web.security import Identity, allowed, workspace_of

router = APIRouter()
Viewer = Annotated[Identity, Depends(allowed("desk.view"))]


@router.get("/models")
def models(request: Request, me: Viewer) -> Response:
    """All models."""
    return page(request, "models", active="models", models=desk.models(workspace_of(request)))


@router.get("/models/{name}")
def model(request: Request, name: str, me: Viewer) -> Response:
    """A model: its versions, and which came from which."""
    found = desk.model(workspace_of(request), name)
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
    """All datasets."""
    return page(request, "datasets", active="datasets", datasets=desk.datasets(workspace_of(request)))


@router.get("/datasets/{name}")
def dataset(request: Request, name: str, me: Viewer) -> Response:
    """A dataset: counts and versions, no ids."""
    workspace = workspace_of(request)
    found, people = desk.dataset(workspace, name), desk.subjects(workspace, name)
    return page(request, "dataset", active="datasets", d=found, people=people)
