# SPDX-License-Identifier: Apache-2.0
"""What is left over, and why: the workspace's own files by what the catalog says, and the folders named."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.catalog import ancestry, derivatives
from expunge.catalog import models as catalog
from expunge.catalog.erasures import any_erased
from expunge.catalog.models import Published
from expunge.catalog.roots import all_roots
from expunge.duplicates import stale_caches
from expunge.exact.checkpoint import running
from expunge.purge.checkpoints import checkpoints
from expunge.purge.erased import ErasedPictures
from expunge.purge.exports import data_exports, model_exports
from expunge.purge.folders import in_folders, named_roots, sha256
from expunge.purge.kinds import Left, Leftover, Survey
from expunge.purge.tree import Changed, Entry, Names, Root, listing, look, names_of
from expunge.queue.originals import awaited_originals

if TYPE_CHECKING:
    from expunge.workspace import Workspace

DRAFT = re.compile(rb"\..+\.(\d+)\.tmp", re.DOTALL)
WORK = re.compile(rb"export-(\d+)-.*", re.DOTALL)
POLISH = b".polish.weights"


@dataclass
class Look:
    """What a survey knows of the workspace.

    Attributes:
        workspace: Which.
        root: Its folder.
        versions: All model versions.
        seen: For each version (by id) the requests whose data it saw.
        busy: Models that are not to be touched.
        left: Collects what is left alone.
    """

    workspace: Workspace
    root: Root
    versions: list[Published]
    seen: Mapping[int, tuple[str, ...]]
    busy: Collection[str]
    left: list[Left] = field(default_factory=list)

    @property
    def superseded(self) -> list[Published]:
        """The superseded versions, those of busy models left out."""
        return [p for p in self.versions if p.state == "superseded" and p.name not in self.busy]


def survey(workspace: Workspace, include: Sequence[Path] = (), busy: Collection[str] = ()) -> Survey:
    """Find everything that is left over; nothing is changed.

    Args:
        workspace: Whose catalog says what is live.
        include: Folders of the user's to search, too.
        busy: Models that a running command holds: nothing of them is a leftover.

    Raises:
        InputError: If a folder to search is none.
    """
    named = named_roots(include)
    with workspace.session() as session:
        versions, seen = catalog.history(session), ancestry.requests_held(session)
        roots = sorted({str(root) for _, root in all_roots(session)})
        erased = any_erased(session)
    at = Look(workspace, Root.of(workspace.root), versions, seen, busy)
    found = [
        *_weights(at),
        *_unrecorded(at),
        *_starts(at),
        *checkpoints(at),
        *_temporary(at),
        *model_exports(at),
        *data_exports(at),
        *_caches(at),
    ]
    if named:
        found += _in_folders(at, named, erased)
    unique = {leftover.entry: leftover for leftover in reversed(found)}
    ordered = sorted(unique.values(), key=lambda x: (x.entry.root.path, x.entry.names))
    outside = [root for root in roots if erased and not _is_searched(root, named)]
    return Survey(tuple(ordered), tuple(at.left), tuple(sorted(busy)), tuple(outside))


def _in_folders(at: Look, named: Sequence[Root], erased: bool) -> list[Leftover]:
    known = _known_files(at)
    with at.workspace.session() as session:
        pictures = ErasedPictures.read(session, at.workspace.key, awaited_originals(at.workspace))
        return list(in_folders(named, [at.root.path], erased, known, pictures))


def _is_searched(folder: str, named: Sequence[Root]) -> bool:
    real = Path(os.path.realpath(folder))
    return any(real.is_relative_to(os.fsdecode(root.path)) for root in named)


def _weights(at: Look) -> Iterator[Leftover]:
    """Superseded weights, but for those that a pending repair starts from or is compared with."""
    newest = {p.name: p for p in at.versions}
    kept = {p.id for p in newest.values()}
    with at.workspace.session() as session:
        for name in {p.name for p in at.versions if p.plan_digest is None}:
            kept.add(catalog.last_accepted(session, name).id)
    kept -= {p.id for p in at.versions if newest[p.name].withdrawn}
    for p in at.superseded:
        names = names_of(p.weights)
        entry = look(at.root, names)
        if p.id in kept:
            if entry is not None:
                at.left.append(Left(p.label, "superseded, but the pending repair starts from it"))
            continue
        reason = f"{p.label} is superseded"
        for part in _tree(at, names, entry):
            kind = "folder" if part.folder else "weights"
            yield Leftover(part, kind, reason, at.seen.get(p.id, ()), ("version", p.id))


def _tree(at: Look, names: Names, entry: Entry | None) -> Iterator[Entry]:
    """A file, or an ensemble's folder with its files; the folder only where nothing else is in it."""
    if entry is None:
        if os.path.lexists(b"/".join((at.root.path, *names))):
            at.left.append(Left(os.fsdecode(b"/".join(names)), "a link, or no regular file: not followed"))
        return
    if not entry.folder:
        yield entry
        return
    try:
        inside = listing(at.root, names)
    except (OSError, Changed):
        return
    ours = [f for f in inside.files if f.name.endswith(b".pt") or DRAFT.fullmatch(f.name)]
    yield from ours
    if len(ours) == len(inside.files) and not inside.folders and not inside.others:
        yield entry


def _unrecorded(at: Look) -> Iterator[Leftover]:
    """Files of models that no version names: a command was killed before it could publish them."""
    recorded = {names_of(p.weights) for p in at.versions}
    for folder in _folders(at, b"models"):
        name = re.escape(folder.name)
        ours = re.compile(name + rb"-\d+(?:\.pt|-ensemble)|" + DRAFT.pattern, re.DOTALL)
        try:
            inside = listing(at.root, folder.names)
        except (OSError, Changed):
            continue
        for entry in (*inside.files, *inside.folders):
            if entry.names not in recorded and ours.fullmatch(entry.name):
                for part in _tree(at, entry.names, entry):
                    yield Leftover(part, "folder" if part.folder else "unpublished", "no version names it")


def _starts(at: Look) -> Iterator[Leftover]:
    """Initial weights of plans that begin from a version that saw what is erased."""
    with at.workspace.session() as session:
        tainted = ancestry.tainted_plans(session)
        begun = {b.plan_digest for b in catalog.unpublished(session) if b.name in at.busy}
    live = {p.name: p for p in at.versions}.values()
    needed = begun | {p.plan_digest for p in live if not p.withdrawn}
    for digest in sorted(tainted - needed):
        entry = look(at.root, (b"plans", digest.encode(), b"initial.weights"))
        if entry is not None:
            yield Leftover(entry, "start", "a start that saw what was erased")


def _folders(at: Look, *names: bytes) -> list[Entry]:
    """The folders of the models that no command holds."""
    try:
        found = listing(at.root, names).folders
    except (OSError, Changed):
        return []
    return [folder for folder in found if os.fsdecode(folder.name) not in at.busy]


def _temporary(at: Look) -> Iterator[Leftover]:
    """What is in the folder of drafts, unless the command that works on it still runs."""
    try:
        found = listing(at.root, (b"tmp",))
    except (OSError, Changed):
        return
    reason = "the command that wrote it is gone"
    for entry in found.files:
        draft = DRAFT.fullmatch(entry.name)
        owner = os.fsdecode(entry.name.removesuffix(POLISH)) if entry.name.endswith(POLISH) else None
        if owner is not None and owner not in at.busy:
            yield Leftover(entry, "temporary", "the start of a polish that is not running")
        elif draft and not running(int(draft.group(1))):
            yield Leftover(entry, "temporary", reason)
    for folder in found.folders:
        work = WORK.fullmatch(folder.name)
        if work and not running(int(work.group(1))):
            inside = listing(at.root, folder.names)
            for entry in inside.files:
                yield Leftover(entry, "temporary", reason)
            if not inside.folders and not inside.others:
                yield Leftover(folder, "folder", reason)


def _caches(at: Look) -> Iterator[Leftover]:
    for name, why in stale_caches(at.workspace):
        entry = look(at.root, names_of(name))
        if entry is not None:
            yield Leftover(entry, "cache", why)


def _known_files(at: Look) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The SHA-256 of every file of a superseded version, as far as it is here or was remembered."""
    versions = {p.id: p for p in at.superseded}
    with at.workspace.session() as session:
        found = {digest: versions[i] for digest, i in derivatives.files_of(session, versions).items()}
    for p in versions.values():
        entry = look(at.root, names_of(p.weights))
        if entry is not None:
            found |= {sha256(part): p for part in _tree(at, entry.names, entry) if not part.folder}
    return {digest: (p.label, at.seen.get(p.id, ())) for digest, p in found.items() if digest}
