# SPDX-License-Identifier: Apache-2.0
"""Types shared by the routes: ids, texts, pages of lists, and declared problems."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from fastapi import Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from expunge.web.problems import responses
from expunge.web.queries import Page
from expunge.web.queries.pages import MOST

Item = TypeVar("Item", bound=BaseModel)
PLAIN = r"^[^\x00-\x1f\x7f]+$"  # one line: no line break may end up in a header, a log or a table
REF = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[1-9][0-9]{0,8})?$"
REQUEST = r"^r-[0-9a-f]{16}$"

Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=PLAIN)]
Ref = Annotated[str, Field(pattern=REF, examples=["shop@2"])]
RequestRef = Annotated[str, Field(pattern=REQUEST, examples=["r-5f2b8c0d9a7e6143"])]
RequestId = Annotated[str, Path(pattern=REQUEST, examples=["r-5f2b8c0d9a7e6143"])]
NameAndVersion = Annotated[str, Path(pattern=REF, examples=["shop@2"])]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Largest number of entries.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the previous page.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="Calls repeated with the same key are executed once.",
    ),
]

# Problems declared by routes. Every route that requires a permission can answer 401 and 403.
READS = responses(401, 403, 404, 422)
CHANGES = responses(400, 401, 403, 404, 409, 413, 422, 503)


class Taken(BaseModel):
    """Base class of request bodies. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class Paged(BaseModel, Generic[Item]):
    """A page of a list."""

    items: list[Item]
    next: str | None = Field(description="The `cursor` of the next page; null on the last page.")
    total: int | None = Field(description="Number of all entries; null if not counted.")


def paged(page: Page) -> dict[str, Any]:
    """Return a page in the form of a route's response."""
    return {"items": page.items, "next": page.next, "total": page.total}
