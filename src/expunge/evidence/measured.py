# SPDX-License-Identifier: Apache-2.0
"""Figures by group in a certificate: counts and figures, without the names of groups or columns."""

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
    """Models measured by group on the same samples; the model before the erasure is first.

    Attributes:
        attributes: Number of columns by which samples were grouped.
        groups: Number of groups with figures; ``groups_without_figure``: number of the other groups.
        minimum: Fewest subjects (samples, if there are no subjects) that a group needs for a figure.
        worst: For each model, the figure of its worst group.
        gap: For each model, the gap between groups, and its 95th percentile over shuffled groups.
        harmed: For each later model, the number of groups that it serves worse than the first, beyond chance.
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
    """Return the path of a request's record of figures."""
    return workspace.audits / f"{request_id}-groups.json"


def read(workspace: Workspace, request_id: str) -> list[Measured]:
    """Return the figures that were recorded for a request."""
    file = path_of(workspace, request_id)
    if not file.is_file():
        return []
    return [Measured.model_validate(entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
