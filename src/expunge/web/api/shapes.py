# SPDX-License-Identifier: Apache-2.0
"""What several routes share: the types of ids and texts, pages of lists, and what may go wrong."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from fastapi import Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from expunge.desk import Page
from expunge.desk.pages import MOST
from expunge.web.problems import responses

Item = TypeVar("Item", bound=BaseModel)
PLAIN = r"^[^\x00-\x1f\x7f]+$"  # a line: no line break ends up in a header, a log or a table
REF = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[1-9][0-9]{0,8})?$"
REQUEST = r"^r-[0-9a-f]{16}$"

Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=PLAIN)]
Ref = Annotated[str, Field(pattern=REF, examples=["shop@2"])]
RequestRef = Annotated[str, Field(pattern=REQUEST, examples=["r-5f2b8c0d9a7e6143"])]
RequestId = Annotated[str, Path(pattern=REQUEST, examples=["r-5f2b8c0d9a7e6143"])]
NameAndVersion = Annotated[str, Path(pattern=REF, examples=["shop@2"])]
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many entries.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="The same call with the same key is done once, however often it comes.",
    ),
]

# A route's answers beside its success; 401 and 403 are every route's that takes a permission.
READS = responses(401, 403, 404, 422)
CHANGES = responses(400, 401, 403, 404, 409, 413, 422, 503)


class Taken(BaseModel):
    """What a route takes; a field that it does not know is an error."""

    model_config = ConfigDict(extra="forbid")


class Paged(BaseModel, Generic[Item]):
    """A page of a list."""

    items: list[Item]
    next: str | None = Field(description="The `cursor` of the next page; null: this is the last.")
    total: int | None = Field(description="How many there are in all; null: not counted.")


def paged(page: Page) -> dict[str, Any]:
    """Return a page as a route does."""
    return {"items": page.items, "next": page.next, "total": page.total}
