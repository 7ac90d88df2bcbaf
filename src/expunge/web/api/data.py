# SPDX-License-Identifier: Apache-2.0
"""Routes for datasets, counts of subjects, single images, and models."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from expunge.web import queries
from expunge.web.api.schemas import PLAIN, READS, NameAndVersion
from expunge.web.auth.access import Identity, allowed, settings_of, workspace_of

router = APIRouter()
View = Annotated[Identity, Depends(allowed("desk.view"))]


class DatasetShown(BaseModel):
    """A version of a dataset."""

    dataset: str = Field(examples=["shop@2"])
    name: str
    version: int
    kind: str
    samples: int
    subjects: int
    parent: str | None
    request: str | None = Field(description="The erasure request that made the version.")


class VersionShown(BaseModel):
    """One of a dataset's versions."""

    dataset: str
    parent: str | None
    request: str | None
    samples: int
    subjects: int
    created: str


class DatasetWhole(DatasetShown):
    """A dataset version with its counts, and the list of all versions."""

    splits: dict[str, int]
    classes: list[str]
    class_samples: dict[str, int]
    public: int
    erased_since: int
    versions: list[VersionShown]


class SubjectCounts(BaseModel):
    """The number of subjects of a version, grouped by their number of samples."""

    dataset: str
    subjects: int
    samples_without: int
    by_samples: dict[str, int]


class ModelShown(BaseModel):
    """A version of a model."""

    model: str = Field(examples=["m@2"])
    name: str
    version: int
    parent: str | None
    task: str
    dataset: str
    state: str = Field(description="current, interim or superseded")
    guarantee: str
    method: str
    digest: str
    samples: int
    subjects: int = Field(description="Number of subjects in its training data.")
    metrics: dict[str, Any] | None
    cost: dict[str, Any] | None
    cpu_seconds: float
    request: str | None
    plan: str | None
    created: str


class Newest(ModelShown):
    """The newest version of a model, and the number of its versions."""

    versions: int


class WithExports(ModelShown):
    """A model version with its exports."""

    exports: list[dict[str, Any]]


class Lineage(BaseModel):
    """A model with all its versions, oldest first. ``parent`` links each version to its predecessor."""

    model: str
    task: str
    versions: list[WithExports]


@router.get("/datasets", response_model=list[DatasetShown], responses=READS, tags=["data"])
def list_datasets(request: Request, _: View) -> Any:
    """List the newest version of every dataset."""
    return queries.datasets(workspace_of(request))


@router.get("/datasets/{ref}", response_model=DatasetWhole, responses=READS, tags=["data"])
def show_dataset(request: Request, ref: NameAndVersion, _: View) -> Any:
    """Show a dataset (its newest version, or NAME@V) with its counts."""
    return queries.dataset(workspace_of(request), ref)


@router.get("/datasets/{ref}/subjects", response_model=SubjectCounts, responses=READS, tags=["data"])
def count_subjects(request: Request, ref: NameAndVersion, _: View) -> Any:
    """Count the subjects of a dataset. No ids are returned."""
    return queries.subjects(workspace_of(request), ref)


@router.get(
    "/datasets/{ref}/picture",
    response_class=Response,
    responses={**READS, 200: {"description": "A small JPEG.", "content": {"image/jpeg": {}}}},
    tags=["data"],
)
def show_picture(
    request: Request,
    ref: NameAndVersion,
    path: Annotated[str, Query(min_length=1, max_length=1000, pattern=PLAIN)],
    _: Annotated[Identity, Depends(allowed("pictures.view"))],
) -> Response:
    """Show a sample's image, if its dataset is below a folder given to the server with `--root`."""
    settings = settings_of(request)
    return Response(
        queries.picture(workspace_of(request), ref, path, settings.below_a_root), 200, None, "image/jpeg"
    )


@router.get("/models", response_model=list[Newest], responses=READS, tags=["models"])
def list_models(request: Request, _: View) -> Any:
    """List the newest version of every model."""
    return queries.models(workspace_of(request))


@router.get("/models/{ref}", response_model=Lineage, responses=READS, tags=["models"])
def show_model(request: Request, ref: NameAndVersion, _: View) -> Any:
    """Show a model with its lineage."""
    return queries.model(workspace_of(request), ref)
