# SPDX-License-Identifier: Apache-2.0
"""What a certificate says of figures by group: counts and figures, never a group's name or a column's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from expunge.workspace import Workspace

SAYS = (
    "These figures were measured on the stated data, for groups of at least the stated size. They do not say "
    "that a model is fair: other attributes, groups too small for a figure, other data and other meanings of "
    "fairness were not looked at."
)
Figures = dict[str, float | None]
Size = Annotated[int, Field(ge=0)]


class Measured(BaseModel):
    """Models measured by group on the same samples, the one before the erasure first.

    Attributes:
        attributes: By how many columns samples were grouped.
        groups: How many groups have figures and are compared; ``groups_without_figure``: the other ones.
        minimum: Of how many people (samples, where there are none) a group needs for a figure.
        worst: For each model the figure of its worst group.
        gap: For each model the gap between groups, and what shuffled groups reach in 5 of 100 cases.
        harmed: For each later model how many groups it serves worse than the first, beyond chance.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    dataset: str
    split: str
    metric: str
    by: str
    models: list[str]
    attributes: Size
    groups: Size
    groups_without_figure: Size
    minimum: Size
    samples: Size
    worst: list[Figures | None]
    gap: list[Figures | None]
    harmed: list[Size]
    says: str = SAYS


def path_of(workspace: Workspace, request_id: str) -> Path:
    """Return where the record of a request lies."""
    return workspace.audits / f"{request_id}-groups.json"


def read(workspace: Workspace, request_id: str) -> list[Measured]:
    """Return what was measured for a request."""
    file = path_of(workspace, request_id)
    if not file.is_file():
        return []
    return [Measured.model_validate(entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
