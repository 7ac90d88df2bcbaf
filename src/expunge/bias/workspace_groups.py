# SPDX-License-Identifier: Apache-2.0
"""Attributes of a dataset's samples and subjects, from the catalog and a file; searched splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.bias.group_table import read_groups
from expunge.bias.groups import Attributes, Groups, group_samples, merged
from expunge.bias.stored_groups import stored_attributes
from expunge.data.types import Sample, Version
from expunge.errors import InputError
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace

SEARCHED = "looked.json"  # the splits on which harmful data was searched, by dataset


def attributes_of(workspace: Workspace, version: Version, file: Path | None = None) -> Attributes:
    """Return the attributes of the samples and subjects of a version.

    Args:
        workspace: The workspace.
        version: The dataset version.
        file: A separate table of groups; it takes precedence over the catalog.

    Raises:
        InputError: If the file cannot be read, or names no sample or subject of the version.
    """
    from expunge.catalog.dataset_store import load_samples

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
            f"{file} does not fit {version.label}.",
            "None of its samples or subjects is in that version.",
            "Give samples by their path relative to the dataset's root.",
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


def record_search(workspace: Workspace, dataset: str, split: str) -> None:
    """Record that harmful data was searched on a split, which then cannot judge the effect."""
    known = _searched(workspace)
    if split not in known.get(dataset, []):
        known[dataset] = sorted({*known.get(dataset, []), split})
        write_atomically(workspace.folder("bias") / SEARCHED, json.dumps(known).encode(), "The note")


def searched_splits(workspace: Workspace, dataset: str) -> frozenset[str]:
    """Return the splits of a dataset on which harmful data was searched."""
    return frozenset(_searched(workspace).get(dataset, []))


def _searched(workspace: Workspace) -> dict[str, list[str]]:
    file = workspace.root / "bias" / SEARCHED
    found: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
