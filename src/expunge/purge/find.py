# SPDX-License-Identifier: Apache-2.0
"""Surveys leftovers in the workspace, by the state of the catalog, and in folders named by the user."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.catalog import ancestry, derivatives, model_store
from expunge.catalog.dataset_folders import all_folders
from expunge.catalog.erasures import any_erased
from expunge.datasets.near_duplicates import stale_caches
from expunge.purge.checkpoints import checkpoints
from expunge.purge.context import PurgeContext
from expunge.purge.erased import ErasedImages
from expunge.purge.exports import data_exports, model_exports
from expunge.purge.folders import file_sha256, find_in_folders, named_roots
from expunge.purge.kinds import Leftover, SkippedFile, Survey
from expunge.purge.originals import awaited_originals
from expunge.purge.tree import Entry, FileChanged, Names, Root, find_entry, list_folder, names_of
from expunge.storage.files import is_running

if TYPE_CHECKING:
    from expunge.workspace import Workspace

DRAFT = re.compile(rb"\..+\.(\d+)\.tmp", re.DOTALL)
WORK = re.compile(rb"export-(\d+)-.*", re.DOTALL)
POLISH = b".polish.weights"


def survey(workspace: Workspace, include: Sequence[Path] = (), busy: Collection[str] = ()) -> Survey:
    """Return all leftovers; nothing is changed.

    Args:
        workspace: The workspace.
        include: Further folders to search.
        busy: Names of models locked by a running command; their files are skipped.

    Raises:
        InputError: If a path to search is not a folder.
    """
    named = named_roots(include)
    with workspace.session() as session:
        versions, seen = model_store.model_versions(session), ancestry.requests_held(session)
        roots = sorted({str(root) for _, root in all_folders(session)})
        erased = any_erased(session)
    context = PurgeContext(workspace, Root.of(workspace.root), versions, seen, busy)
    found = [
        *_weights(context),
        *_unrecorded_weights(context),
        *_starts(context),
        *checkpoints(context),
        *_temporary(context),
        *model_exports(context),
        *data_exports(context),
        *_hash_caches(context),
    ]
    if named:
        found += _in_named_folders(context, named, erased)
    unique = {leftover.entry: leftover for leftover in reversed(found)}
    ordered = sorted(unique.values(), key=lambda x: (x.entry.root.path, x.entry.names))
    outside = [root for root in roots if erased and not _is_searched(root, named)]
    return Survey(tuple(ordered), tuple(context.left), tuple(sorted(busy)), tuple(outside))


def _in_named_folders(context: PurgeContext, named: Sequence[Root], erased: bool) -> list[Leftover]:
    """Return the leftovers in folders named by the user."""
    known = _known_weights(context)
    with context.workspace.session() as session:
        images = ErasedImages.read(session, context.workspace.key, awaited_originals(context.workspace))
        return list(find_in_folders(named, [context.root.path], erased, known, images))


def _is_searched(folder: str, named: Sequence[Root]) -> bool:
    """Return whether a folder is one of the named folders or inside one."""
    real = Path(os.path.realpath(folder))
    return any(real.is_relative_to(os.fsdecode(root.path)) for root in named)


def _weights(context: PurgeContext) -> Iterator[Leftover]:
    """Yield superseded weights, except those that a pending repair needs as start or for comparison."""
    newest = {p.name: p for p in context.versions}
    kept = {p.id for p in newest.values()}
    with context.workspace.session() as session:
        for name in {p.name for p in context.versions if p.plan_digest is None}:
            kept.add(model_store.last_accepted(session, name).id)
    kept -= {p.id for p in context.versions if newest[p.name].withdrawn}
    for p in context.superseded:
        names = names_of(p.weights)
        entry = find_entry(context.root, names)
        if p.id in kept:
            if entry is not None:
                context.left.append(SkippedFile(p.label, "superseded, but the pending repair starts from it"))
            continue
        reason = f"{p.label} is superseded"
        for part in _tree(context, names, entry):
            kind = "folder" if part.folder else "weights"
            yield Leftover(part, kind, reason, context.seen.get(p.id, ()), ("version", p.id))


def _tree(context: PurgeContext, names: Names, entry: Entry | None) -> Iterator[Entry]:
    """Yield a weights file, or the files of an ensemble and its folder, if nothing else is in it."""
    if entry is None:
        if os.path.lexists(b"/".join((context.root.path, *names))):
            context.left.append(
                SkippedFile(os.fsdecode(b"/".join(names)), "a link, or no regular file: not followed")
            )
        return
    if not entry.folder:
        yield entry
        return
    try:
        inside = list_folder(context.root, names)
    except (OSError, FileChanged):
        return
    weights = [f for f in inside.files if f.name.endswith(b".pt") or DRAFT.fullmatch(f.name)]
    yield from weights
    if len(weights) == len(inside.files) and not inside.folders and not inside.others:
        yield entry


def _unrecorded_weights(context: PurgeContext) -> Iterator[Leftover]:
    """Yield weights that no version names, because a command was killed before it published them."""
    recorded = {names_of(p.weights) for p in context.versions}
    for folder in _folders(context, b"models"):
        name = re.escape(folder.name)
        pattern = re.compile(name + rb"-\d+(?:\.pt|-ensemble)|" + DRAFT.pattern, re.DOTALL)
        try:
            inside = list_folder(context.root, folder.names)
        except (OSError, FileChanged):
            continue
        for entry in (*inside.files, *inside.folders):
            if entry.names not in recorded and pattern.fullmatch(entry.name):
                for part in _tree(context, entry.names, entry):
                    yield Leftover(part, "folder" if part.folder else "unpublished", "no version names it")


def _starts(context: PurgeContext) -> Iterator[Leftover]:
    """Yield the initial weights of plans that start from a version trained on erased data."""
    with context.workspace.session() as session:
        tainted = ancestry.tainted_plans(session)
        begun = {b.plan_digest for b in model_store.unpublished_trainings(session) if b.name in context.busy}
    live = {p.name: p for p in context.versions}.values()
    needed = begun | {p.plan_digest for p in live if not p.withdrawn}
    for digest in sorted(tainted - needed):
        entry = find_entry(context.root, (b"plans", digest.encode(), b"initial.weights"))
        if entry is not None:
            yield Leftover(entry, "start", "a start that was trained on erased data")


def _folders(context: PurgeContext, *names: bytes) -> list[Entry]:
    """Return the subfolders of models that are not busy."""
    try:
        found = list_folder(context.root, names).folders
    except (OSError, FileChanged):
        return []
    return [folder for folder in found if os.fsdecode(folder.name) not in context.busy]


def _temporary(context: PurgeContext) -> Iterator[Leftover]:
    """Yield the files in ``tmp/`` whose command no longer runs."""
    try:
        found = list_folder(context.root, (b"tmp",))
    except (OSError, FileChanged):
        return
    reason = "the command that wrote it has ended"
    for entry in found.files:
        draft = DRAFT.fullmatch(entry.name)
        owner = os.fsdecode(entry.name.removesuffix(POLISH)) if entry.name.endswith(POLISH) else None
        if owner is not None and owner not in context.busy:
            yield Leftover(entry, "temporary", "the start of a polish that is not running")
        elif draft and not is_running(int(draft.group(1))):
            yield Leftover(entry, "temporary", reason)
    for folder in found.folders:
        work = WORK.fullmatch(folder.name)
        if work and not is_running(int(work.group(1))):
            inside = list_folder(context.root, folder.names)
            for entry in inside.files:
                yield Leftover(entry, "temporary", reason)
            if not inside.folders and not inside.others:
                yield Leftover(folder, "folder", reason)


def _hash_caches(context: PurgeContext) -> Iterator[Leftover]:
    """Yield caches with perceptual hashes of erased images."""
    for name, why in stale_caches(context.workspace):
        entry = find_entry(context.root, names_of(name))
        if entry is not None:
            yield Leftover(entry, "cache", why)


def _known_weights(context: PurgeContext) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return label and held requests of superseded versions, by the SHA-256 of their weights files.

    Includes files that were deleted, if their digests were recorded.
    """
    versions = {p.id: p for p in context.superseded}
    with context.workspace.session() as session:
        found = {digest: versions[i] for digest, i in derivatives.files_of(session, versions).items()}
    for p in versions.values():
        entry = find_entry(context.root, names_of(p.weights))
        if entry is not None:
            found |= {file_sha256(part): p for part in _tree(context, entry.names, entry) if not part.folder}
    return {digest: (p.label, context.seen.get(p.id, ())) for digest, p in found.items() if digest}
