# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates of what a request takes out: list the pairs, look at them, decide about each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from expunge.data.thumbnail import thumbnail
from expunge.desk.pages import MOST_ROWS
from expunge.errors import NotFound
from expunge.queue import likeness
from expunge.web.api.shapes import CHANGES, READS, RequestId, RequestRef, Taken
from expunge.web.security import Identity, allowed, settings_of, workspace_of

router = APIRouter(prefix="/requests/{request_id}", tags=["requests"])
Sample = Annotated[int, Field(ge=1, le=MOST_ROWS, description="Number of the sample.", examples=[17])]
Sides = Literal["220", "640"]


class Side(BaseModel):
    """One picture of a pair; what tells whose it is only with the permission `selection.view`."""

    sample: Sample
    path: str | None = Field(examples=["images/train/17.png"])
    subjects: list[str] | None = Field(examples=[["s17"]])
    picture: str = Field(description="Where a small JPEG of it is.", examples=[
        "/api/v1/requests/r-5f2b8c0d9a7e6143/pictures/17"
    ])  # fmt: skip


class Pair(BaseModel):
    """A picture that goes, and one that looks like it and stays unless it is decided to be the same."""

    goes: Side
    alike: Side
    similarity: float = Field(ge=0, le=1, examples=[0.97])
    identical: bool = Field(description="The same bytes.")
    flipped: bool = Field(description="Mirrored.")
    decision: Literal["same", "different"] | None = Field(description="Null: undecided.")


class Lookalikes(BaseModel):
    """The pairs of a request, undecided ones first, then the most alike."""

    request: RequestRef
    dataset: str = Field(examples=["shop@2"])
    count: int = Field(description="How many pairs there are; the most alike are told.")
    undecided: int
    unreadable: int = Field(description="How many pictures could not be read.")
    pairs: list[Pair]


class Decide(Taken):
    """What an officer decided about a pair: `same` takes the other picture out, too."""

    goes: Sample
    alike: Sample
    decision: Literal["same", "different"] = Field(examples=["same"])


class Decided(BaseModel):
    """The decision that is kept now."""

    goes: int
    alike: int
    decision: Literal["same", "different"]


@router.get("/lookalikes", response_model=Lookalikes, responses={**READS, **CHANGES})
def list_lookalikes(
    request: Request,
    request_id: RequestId,
    who: Annotated[Identity, Depends(allowed("pictures.view"))],
) -> dict[str, Any]:
    """List pictures that look like those that a request takes out, while that can still be decided."""
    found = likeness.lookalikes(workspace_of(request), request_id)
    names = who.may("selection.view")
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
    told = {key: found[key] for key in ("dataset", "count", "undecided", "unreadable")}
    return {"request": request_id, **told, "pairs": pairs}


@router.post("/lookalikes", response_model=Decided, responses=CHANGES)
def decide(
    request: Request,
    request_id: RequestId,
    body: Decide,
    _: Annotated[Identity, Depends(allowed("duplicates.decide"))],
) -> Any:
    """Decide about one pair, or decide anew, before the request is executed."""
    likeness.decide_pair(workspace_of(request), request_id, body.goes, body.alike, body.decision)
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
    side: Annotated[Sides, Query(description="Pixels of the square into which it fits.")] = "220",
) -> Response:
    """Show a sample of the request's dataset, if it lies below a folder that the server was started with."""
    file = likeness.picture_of(workspace_of(request), request_id, sample)
    shown = thumbnail(file, int(side)) if settings_of(request).below_a_root(file) else None
    if shown is None:
        raise NotFound("There is no such picture.", "", "")
    return Response(shown, 200, None, "image/jpeg")
