# SPDX-License-Identifier: Apache-2.0
"""Routes for near-duplicates of the samples of a request: list the pairs, show images, record decisions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from expunge.data.thumbnail import thumbnail
from expunge.erasure import near_duplicates
from expunge.errors import NotFound
from expunge.web.api.schemas import CHANGES, READS, RequestId, RequestRef, Taken
from expunge.web.auth.access import Identity, allowed, settings_of, workspace_of
from expunge.web.queries.pages import MOST_ROWS

router = APIRouter(prefix="/requests/{request_id}", tags=["requests"])
Sample = Annotated[int, Field(ge=1, le=MOST_ROWS, description="Number of the sample.", examples=[17])]
Sides = Literal["220", "640"]


class Side(BaseModel):
    """One image of a pair. Path and subjects are given only with the permission `selection.view`."""

    sample: Sample
    path: str | None = Field(examples=["images/train/17.png"])
    subjects: list[str] | None = Field(examples=[["s17"]])
    picture: str = Field(description="Address of a small JPEG.", examples=[
        "/api/v1/requests/r-5f2b8c0d9a7e6143/pictures/17"
    ])  # fmt: skip


class Pair(BaseModel):
    """An image that the request erases, and a similar one that stays unless it is decided to be the same."""

    goes: Side
    alike: Side
    similarity: float = Field(ge=0, le=1, examples=[0.97])
    identical: bool = Field(description="Whether the bytes are equal.")
    flipped: bool = Field(description="Whether one image is mirrored.")
    decision: Literal["same", "different"] | None = Field(description="Null if undecided.")


class Lookalikes(BaseModel):
    """The pairs of a request: undecided ones first, then by similarity."""

    request: RequestRef
    dataset: str = Field(examples=["shop@2"])
    count: int = Field(description="Number of all pairs; `pairs` may hold only the most similar ones.")
    undecided: int
    unreadable: int = Field(description="Number of images that could not be read.")
    pairs: list[Pair]


class Decide(Taken):
    """A decision about a pair. `same` adds the similar image to the request."""

    goes: Sample
    alike: Sample
    decision: Literal["same", "different"] = Field(examples=["same"])


class Decided(BaseModel):
    """The recorded decision."""

    goes: int
    alike: int
    decision: Literal["same", "different"]


@router.get("/lookalikes", response_model=Lookalikes, responses={**READS, **CHANGES})
def list_lookalikes(
    request: Request,
    request_id: RequestId,
    user: Annotated[Identity, Depends(allowed("pictures.view"))],
) -> dict[str, Any]:
    """List images similar to those that a request erases, as long as decisions are possible."""
    found = near_duplicates.find_near_duplicates(workspace_of(request), request_id)
    names = user.may("selection.view")
    pictures = f"{request.url.path.removesuffix('/lookalikes')}/pictures"

    def side(pair: dict[str, Any], key: str) -> dict[str, Any]:
        return {
            "sample": pair[key],
            "path": pair[f"path_{key}"] if names else None,
            "subjects": pair[f"subjects_{key}"] if names else None,
            "picture": f"{pictures}/{pair[key]}",
        }

    pairs = [
        {
            "goes": side(pair, "a"),
            "alike": side(pair, "b"),
            **{key: pair[key] for key in ("similarity", "identical", "flipped", "decision")},
        }
        for pair in found["pairs"]
    ]
    counts = {key: found[key] for key in ("dataset", "count", "undecided", "unreadable")}
    return {"request": request_id, **counts, "pairs": pairs}


@router.post("/lookalikes", response_model=Decided, responses=CHANGES)
def decide(
    request: Request,
    request_id: RequestId,
    body: Decide,
    _: Annotated[Identity, Depends(allowed("duplicates.decide"))],
) -> Any:
    """Record or change the decision about a pair, before the request is executed."""
    near_duplicates.decide_pair(workspace_of(request), request_id, body.goes, body.alike, body.decision)
    return body.model_dump()


@router.get(
    "/pictures/{sample}",
    response_class=Response,
    responses={**READS, 200: {"description": "A small JPEG.", "content": {"image/jpeg": {}}}},
)
def show_picture(
    request: Request,
    request_id: RequestId,
    sample: Annotated[int, Path(ge=1, le=MOST_ROWS, examples=[17])],
    _: Annotated[Identity, Depends(allowed("pictures.view"))],
    side: Annotated[Sides, Query(description="Largest width and height, in pixels.")] = "220",
) -> Response:
    """Show a sample of the request's dataset, if it is below a folder given to the server with `--root`."""
    file = near_duplicates.image_file(workspace_of(request), request_id, sample)
    jpeg = thumbnail(file, int(side)) if settings_of(request).below_a_root(file) else None
    if jpeg is None:
        raise NotFound("There is no such picture.", "", "")
    return Response(jpeg, 200, None, "image/jpeg")
