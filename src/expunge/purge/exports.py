# SPDX-License-Identifier: Apache-2.0
"""Finds exports of superseded models, and exported dataset trees of which samples were erased since."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from expunge.catalog import derivatives
from expunge.data.export import MARKER
from expunge.data.listing import IMAGE_SUFFIXES
from expunge.purge.folders import file_sha256, read_head
from expunge.purge.kinds import Leftover, SkippedFile
from expunge.purge.tree import Entry, FileChanged, FolderListing, Root, find_entry, list_folder, walk

if TYPE_CHECKING:
    from expunge.purge.context import PurgeContext

# Files of an exported tree, and those that Ultralytics adds: decoded images and label caches.
EXPORTED_SUFFIXES = frozenset(s.encode() for s in (*IMAGE_SUFFIXES, "txt", "npy", "cache"))
DRAFT = re.compile(rb"\..+\.\d+\.tmp", re.DOTALL)


def model_exports(context: PurgeContext) -> Iterator[Leftover]:
    """Yield the files of exports of superseded versions, if they still have the exported bytes."""
    versions = {p.id: p for p in context.superseded}
    with context.workspace.session() as session:
        exports = derivatives.model_exports(session, versions)
        digests = {e.id: derivatives.export_digests(session, e.id) for e in exports}
        all_exports = derivatives.model_exports(session, [p.id for p in context.versions])
    for export in exports:
        version = versions[export.model_version_id]
        reason = f"an export ({export.format}) of {version.label}, which is superseded"
        path = os.fsencode(export.path)
        entry = _entry(path)
        if entry is None:
            if os.path.lexists(path):
                context.left.append(SkippedFile(export.path, "a link now, or behind one: not followed"))
            continue
        inside = list_folder(entry.root, entry.names) if entry.folder else None
        files = inside.files if inside else (entry,)
        exported = [f for f in files if file_sha256(f) in digests[export.id]]
        for f in exported:
            yield Leftover(f, "export", reason, context.seen.get(version.id, ()), ("export", export.id))
        if len(exported) < len(files):
            context.left.append(
                SkippedFile(
                    export.path, f"{len(files) - len(exported)} file(s) are not those that were exported"
                )
            )
        elif inside and not inside.folders and not inside.others:
            yield Leftover(entry, "folder", reason, context.seen.get(version.id, ()), ("export", export.id))
    yield from _unfinished(context, {os.fsencode(e.path) for e in all_exports})


def _entry(path: bytes) -> Entry | None:
    """Return the file or folder with an absolute path; None if there is none or the path has a link."""
    try:
        root = Root.of(os.path.dirname(path))
    except OSError:
        return None
    if root.path != os.path.dirname(path):
        return None
    return find_entry(root, (os.path.basename(path),))


def _unfinished(context: PurgeContext, recorded: set[bytes]) -> Iterator[Leftover]:
    """Yield exports in the workspace that a killed command left unfinished."""
    try:
        folders = list_folder(context.root, (b"exports",)).folders
    except (OSError, FileChanged):
        return
    for folder in folders:
        if os.fsdecode(folder.name) in context.busy:
            continue
        for entry in list_folder(context.root, folder.names).files:
            if DRAFT.fullmatch(entry.name) and entry.path not in recorded:
                yield Leftover(entry, "unpublished", "an export that was never finished")


def data_exports(context: PurgeContext) -> Iterator[Leftover]:
    """Yield the trees written by ``data export`` that contain samples erased since.

    Only files of an export are yielded: images, labels, lists, ``data.yaml`` and caches; other files belong
    to the user. A tree is recognised by its marker, so that a folder that replaced it is skipped.
    """
    with context.workspace.session() as session:
        outdated = derivatives.outdated_data_exports(session)
    for export in outdated:
        if not os.path.lexists(os.fsencode(export.path)):
            continue
        try:
            root = Root.of(os.path.dirname(os.fsencode(export.path)))
        except OSError:
            continue
        names = (os.path.basename(os.fsencode(export.path)),)
        top = find_entry(root, names)
        marker = find_entry(root, (*names, MARKER.encode()))
        if (
            top is None
            or marker is None
            or read_head(marker, 100).decode("ascii", "replace").strip() != export.id
        ):
            context.left.append(
                SkippedFile(export.path, "not the tree that was exported there: its marker is not in it")
            )
            continue
        reason = f"a tree of {export.dataset}@{export.version}; part of it was erased since"
        yield from _tree(context, root, top, reason, export)


def _tree(
    context: PurgeContext, root: Root, top: Entry, reason: str, export: derivatives.DataExport
) -> Iterator[Leftover]:
    """Yield the exported files of a tree, and the folders that are empty without them."""
    source = ("data", export.id)
    found = list(walk(root, top.names))
    emptied: set[tuple[bytes, ...]] = set()
    foreign = 0
    for folder in reversed(found):  # children before their parents
        exported = [f for f in folder.files if _is_exported(folder, f, top)]
        foreign += len(folder.files) - len(exported) + len(folder.others)
        for entry in exported:
            yield Leftover(entry, "data-export", reason, export.requests, source)
        only_exported = len(exported) == len(folder.files) and not folder.others
        if only_exported and all(inner.names in emptied for inner in folder.folders):
            emptied.add(folder.names)
    entries = {top.names: top, **{inner.names: inner for folder in found for inner in folder.folders}}
    for names in emptied:
        yield Leftover(entries[names], "folder", reason, export.requests, source)
    if foreign:
        context.left.append(SkippedFile(export.path, f"{foreign} file(s) in this tree are not of the export"))


def _is_exported(folder: FolderListing, entry: Entry, top: Entry) -> bool:
    """Return whether a file of a tree may belong to the export, by its name."""
    suffix = entry.name.rpartition(b".")[2].lower()
    if folder.names == top.names and entry.name in (b"data.yaml", MARKER.encode()):
        return True
    return suffix in EXPORTED_SUFFIXES
