# SPDX-License-Identifier: Apache-2.0
"""What a workspace knows of the groups in a dataset: from its table of subjects, and from a file given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.bias.group_table import read_groups
from expunge.bias.groups import Attributes, Groups, group_samples, merged
from expunge.catalog.group_values import stored_attributes
from expunge.data.types import Sample, Version
from expunge.errors import InputError
from expunge.exact.checkpoint import write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace

LOOKED = "looked.json"  # by dataset, the splits on which samples were looked for


def attributes_of(workspace: Workspace, version: Version, file: Path | None = None) -> Attributes:
    """Return what is known of the samples and subjects of a version.

    Args:
        workspace: Where it is known.
        version: Of the dataset.
        file: A table of groups of its own; where both know something, the file does.

    Raises:
        InputError: If the file cannot be read, or speaks of nothing that is in the version.
    """
    from expunge.catalog.datasets import load_samples

    with workspace.session() as session:
        stored = stored_attributes(session, version)
        samples = load_samples(session, version) if file is not None else []
    if file is None:
        return stored
    given = read_groups(file)
    paths, people = {s.path for s in samples}, {p for s in samples for p in s.subjects}
    named = {*given.samples, *(path for path, _ in [*given.pairs, *given.boxes])}
    if paths.isdisjoint(named) and people.isdisjoint(given.subjects):
        raise InputError(
            f"{file} speaks of nothing in {version.label}.",
            "None of its samples or subjects is in that version.",
            "Samples are told by their path relative to the dataset's root.",
        )
    return merged(stored, given)


def groups_of(
    workspace: Workspace,
    version: Version,
    samples: Sequence[Sample],
    columns: Sequence[str],
    file: Path | None = None,
) -> Groups:
    """Group samples of a version; see :func:`expunge.bias.groups.group_samples`."""
    return group_samples(samples, attributes_of(workspace, version, file), columns)


def note_found(workspace: Workspace, dataset: str, split: str) -> None:
    """Remember that samples of a dataset were looked for on a split: it no longer judges what came of it."""
    known = _looked(workspace)
    if split not in known.get(dataset, []):
        known[dataset] = sorted({*known.get(dataset, []), split})
        write_atomically(workspace.folder("bias") / LOOKED, json.dumps(known).encode(), "The note")


def looked_at(workspace: Workspace, dataset: str) -> frozenset[str]:
    """Return the splits of a dataset on which samples were looked for."""
    return frozenset(_looked(workspace).get(dataset, []))


def _looked(workspace: Workspace) -> dict[str, list[str]]:
    file = workspace.root / "bias" / LOOKED
    found: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
