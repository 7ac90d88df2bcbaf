# SPDX-License-Identifier: Apache-2.0
"""State of a survey of leftovers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from expunge.catalog.model_store import ModelVersion
from expunge.purge.kinds import SkippedFile
from expunge.purge.tree import Root

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass
class PurgeContext:
    """State of a survey.

    Attributes:
        workspace: The workspace.
        root: Its folder ``.expunge``.
        versions: All model versions.
        seen: Ids of the requests whose data each version holds, by version id.
        busy: Names of models locked by a running command; their files are skipped.
        left: Collects the skipped files.
    """

    workspace: Workspace
    root: Root
    versions: list[ModelVersion]
    seen: Mapping[int, tuple[str, ...]]
    busy: Collection[str]
    left: list[SkippedFile] = field(default_factory=list)

    @property
    def superseded(self) -> list[ModelVersion]:
        """The superseded versions of models that are not busy."""
        return [p for p in self.versions if p.state == "superseded" and p.name not in self.busy]
