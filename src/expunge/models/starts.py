# SPDX-License-Identifier: Apache-2.0
"""Digests that identify a weights file and the starts that it was trained from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, model_store
from expunge.catalog.model_store import ModelVersion
from expunge.errors import InputError
from expunge.storage.hashing import rounded_digest, tensor_digest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

ARCHITECTURES = (".yaml", ".yml")
DEPTH = 20  # most files read in a chain of starts


@dataclass(frozen=True)
class Origin:
    """Digests of a weights file and of its starts.

    Attributes:
        own: Digests of the tensors in the file, and of the same rounded to fp16.
        earlier: Digests of the files that it was trained from, as far as the training records name them.
    """

    own: frozenset[str]
    earlier: frozenset[str] = frozenset()

    @property
    def every(self) -> frozenset[str]:
        """The digests of all ancestors of a training that starts from the file."""
        return self.own | self.earlier


def digests(states: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the digests of state dicts, and of the same rounded to fp16."""
    return frozenset(digest(state) for state in states for digest in (tensor_digest, rounded_digest))


def origin(workspace: Workspace, path: Path, *, unsafe_trust: bool = False) -> Origin:
    """Return the digests of a weights file and of the files that it was trained from.

    A start is read if its file still exists. A start in this workspace is recognised by its path even if a
    purge deleted the file.

    Args:
        workspace: The workspace whose models are recognised.
        path: The weights file.
        unsafe_trust: Unpickle the file although that may run code.

    Raises:
        InputError: If the file itself cannot be read.
    """
    from expunge.tasks.weights import read_checkpoint_content

    with workspace.session() as session:
        ours = {str(workspace.root / p.weights): p.digest for p in model_store.model_versions(session)}
    inside = read_checkpoint_content(path, unsafe_trust=unsafe_trust)
    own, earlier = digests(inside.states), set[str]()
    todo = [(name, path.parent) for name in inside.starts]
    known = {os.path.realpath(path)}
    while todo and len(known) <= DEPTH:
        name, folder = todo.pop()
        places = [Path(os.path.abspath(base / name)) for base in (Path.cwd(), folder)]
        earlier |= {ours[str(place)] for place in places if str(place) in ours}
        file = next((p for p in places if p.suffix == ".pt" and p.is_file()), None)
        if file is None or os.path.realpath(file) in known:
            continue
        known.add(os.path.realpath(file))
        try:
            inside = read_checkpoint_content(file)
        except InputError:
            continue  # not readable without trust
        earlier |= digests(inside.states)
        todo += [(further, file.parent) for further in inside.starts]
    return Origin(own, frozenset(earlier) - own)


def check_start(session: Session, start_digests: frozenset[str], what: str) -> list[ModelVersion]:
    """Return the model versions that a start equals or descends from; refuse a start that saw erased data.

    Args:
        session: A session on the catalog.
        start_digests: The digests of the start and of its ancestors.
        what: Name of the start in the message.

    Raises:
        InputError: If a version with these tensors was trained on data that was erased since.
    """
    requests = ancestry.requests_of_start(session, start_digests)
    if requests:
        version = next(iter(requests.values()))
        raise InputError(
            f"{what} saw what was erased.",
            f"It is {version.label}, or was trained from it, and {len(requests)} request(s) erased its data.",
            _clean_start(session, version),
        )
    return ancestry.load_ancestry(session).named(start_digests)


def note_of(versions: Sequence[ModelVersion]) -> str | None:
    """Return a plan's note about a start from a model of this workspace; None for another start."""
    if not versions:
        return None
    return (
        f"This start is model {versions[0].label} of this workspace, or was trained from it: an erasure of"
        " anybody whom it saw withdraws this model, and costs a full retrain from another start."
    )


def _clean_start(session: Session, version: ModelVersion) -> str:
    """Return advice on a start to use instead of a version that saw erased data."""
    held = ancestry.requests_held(session)
    newest = [
        p
        for p in model_store.model_versions(session, version.name)
        if not held[p.id] and p.state == "current"
    ]
    if newest:
        return f"Start from {newest[-1].label}, which did not see it: {newest[-1].weights} in the workspace."
    return "Start from other weights, or from an architecture such as yolo26n.yaml."
