# SPDX-License-Identifier: Apache-2.0
"""The digests by which a weights file, and what it was trained from, are known again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry
from expunge.catalog import models as catalog
from expunge.catalog.models import Published
from expunge.errors import InputError
from expunge.exact.hashing import rounded_digest, tensor_digest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

ARCHITECTURES = (".yaml", ".yml")
DEPTH = 20  # files that a chain of training records is followed through


@dataclass(frozen=True)
class Origin:
    """What is known of a weights file.

    Attributes:
        own: Digests of the tensors in it, and of the same rounded to fp16.
        earlier: The same of the files that it was trained from, as far as training records lead to them.
    """

    own: frozenset[str]
    earlier: frozenset[str] = frozenset()

    @property
    def every(self) -> frozenset[str]:
        """All digests: what a training that begins from the file descends from."""
        return self.own | self.earlier


def digests(states: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the digests of some states' tensors, and of the same rounded to fp16."""
    return frozenset(digest(state) for state in states for digest in (tensor_digest, rounded_digest))


def origin(workspace: Workspace, path: Path, *, unsafe_trust: bool = False) -> Origin:
    """Return the digests of a weights file and of what it was trained from.

    A start that is named by a path is read where it is still there; a path of this workspace's own is known
    also when a purge has deleted the file.

    Raises:
        InputError: If the file itself cannot be read.
    """
    from expunge.tasks.weights import look_inside

    with workspace.session() as session:
        ours = {str(workspace.root / p.weights): p.digest for p in catalog.history(session)}
    inside = look_inside(path, unsafe_trust=unsafe_trust)
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
            inside = look_inside(file)
        except InputError:
            continue  # not readable without trust: nothing is known of it
        earlier |= digests(inside.states)
        todo += [(further, file.parent) for further in inside.starts]
    return Origin(own, frozenset(earlier) - own)


def check_start(session: Session, found: frozenset[str], what: str) -> list[Published]:
    """Return the versions that a start is known as; refuse one that saw what was erased.

    Args:
        session: A session on the catalog.
        found: The digests of the start.
        what: What to call it in the message.

    Raises:
        InputError: If a version with these tensors was trained on what was erased since.
    """
    requests = ancestry.requests_of_start(session, found)
    if requests:
        version = next(iter(requests.values()))
        raise InputError(
            f"{what} saw what was erased.",
            f"It is {version.label}, or was trained from it, and {len(requests)} request(s) erased its data.",
            _clean(session, version),
        )
    return ancestry.load(session).named(found)


def note_of(versions: Sequence[Published]) -> str | None:
    """Return what a plan says of a start that is known here; None where it is not."""
    if not versions:
        return None
    return (
        f"This start is model {versions[0].label} of this workspace, or was trained from it: an erasure of"
        " anybody whom it saw withdraws this model, and costs a full retrain from another start."
    )


def _clean(session: Session, version: Published) -> str:
    """What to start from in place of a version."""
    held = ancestry.requests_held(session)
    newest = [p for p in catalog.history(session, version.name) if not held[p.id] and p.state == "current"]
    if newest:
        return f"Start from {newest[-1].label}, which did not see it: {newest[-1].weights} in the workspace."
    return "Start from other weights, or from an architecture such as yolo26n.yaml."
