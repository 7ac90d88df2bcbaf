# SPDX-License-Identifier: Apache-2.0
"""Exports of superseded models, and sanitized trees in which something was erased since."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from expunge.catalog import derivatives
from expunge.data.export import MARKER
from expunge.data.listing import IMAGE_SUFFIXES
from expunge.purge.folders import head, sha256
from expunge.purge.kinds import Left, Leftover
from expunge.purge.tree import Changed, Entry, Listed, Root, listing, look, walk

if TYPE_CHECKING:
    from expunge.purge.find import Look

# What an export writes, and what Ultralytics puts beside it: decoded pictures and label caches.
OURS = frozenset(s.encode() for s in (*IMAGE_SUFFIXES, "txt", "npy", "cache"))
DRAFT = re.compile(rb"\..+\.\d+\.tmp", re.DOTALL)


def model_exports(at: Look) -> Iterator[Leftover]:
    """Yield the files of exports whose version is superseded, where they are still what was written."""
    versions = {p.id: p for p in at.superseded}
    with at.workspace.session() as session:
        exports = derivatives.model_exports(session, versions)
        digests = {e.id: derivatives.export_digests(session, e.id) for e in exports}
        every = derivatives.model_exports(session, [p.id for p in at.versions])
    for export in exports:
        version = versions[export.model_version_id]
        reason = f"an export ({export.format}) of {version.label}, which is superseded"
        where = os.fsencode(export.path)
        entry = _entry(where)
        if entry is None:
            if os.path.lexists(where):
                at.left.append(Left(export.path, "a link now, or behind one: not followed"))
            continue
        inside = listing(entry.root, entry.names) if entry.folder else None
        files = inside.files if inside else (entry,)
        ours = [f for f in files if sha256(f) in digests[export.id]]
        for f in ours:
            yield Leftover(f, "export", reason, at.seen.get(version.id, ()), ("export", export.id))
        if len(ours) < len(files):
            at.left.append(
                Left(export.path, f"{len(files) - len(ours)} file(s) are not those that were exported")
            )
        elif inside and not inside.folders and not inside.others:
            yield Leftover(entry, "folder", reason, at.seen.get(version.id, ()), ("export", export.id))
    yield from _unrecorded(at, {os.fsencode(e.path) for e in every})


def _entry(where: bytes) -> Entry | None:
    try:
        root = Root.of(os.path.dirname(where))
    except OSError:
        return None
    if root.path != os.path.dirname(where):
        return None
    return look(root, (os.path.basename(where),))


def _unrecorded(at: Look, recorded: set[bytes]) -> Iterator[Leftover]:
    """Exports in the workspace that a killed command did not come to record."""
    try:
        folders = listing(at.root, (b"exports",)).folders
    except (OSError, Changed):
        return
    for folder in folders:
        if os.fsdecode(folder.name) in at.busy:
            continue
        for entry in listing(at.root, folder.names).files:
            if DRAFT.fullmatch(entry.name) and entry.path not in recorded:
                yield Leftover(entry, "unpublished", "an export that was never finished")


def data_exports(at: Look) -> Iterator[Leftover]:
    """Yield the trees that ``data export`` wrote and that hold something erased since.

    Only what such a tree consists of: pictures, labels, lists, its ``data.yaml`` and caches; other files in
    it are somebody's own. A tree is known by its marker, so that what took its place is left alone.
    """
    with at.workspace.session() as session:
        outdated = derivatives.outdated_data_exports(session)
    for export in outdated:
        if not os.path.lexists(os.fsencode(export.path)):
            continue
        try:
            root = Root.of(os.path.dirname(os.fsencode(export.path)))
        except OSError:
            continue
        names = (os.path.basename(os.fsencode(export.path)),)
        top = look(root, names)
        marker = look(root, (*names, MARKER.encode()))
        if top is None or marker is None or head(marker, 100).decode("ascii", "replace").strip() != export.id:
            at.left.append(Left(export.path, "not the tree that was exported there: its marker is not in it"))
            continue
        reason = f"a tree of {export.dataset}@{export.version}; part of it was erased since"
        yield from _tree(at, root, top, reason, export)


def _tree(
    at: Look, root: Root, top: Entry, reason: str, export: derivatives.DataExport
) -> Iterator[Leftover]:
    source = ("data", export.id)
    found = list(walk(root, top.names))
    emptied: set[tuple[bytes, ...]] = set()
    strangers = 0
    for folder in reversed(found):  # children come after their parents
        ours = [f for f in folder.files if _is_ours(folder, f, top)]
        strangers += len(folder.files) - len(ours) + len(folder.others)
        for entry in ours:
            yield Leftover(entry, "data-export", reason, export.requests, source)
        whole = len(ours) == len(folder.files) and not folder.others
        if whole and all(inner.names in emptied for inner in folder.folders):
            emptied.add(folder.names)
    entries = {top.names: top, **{inner.names: inner for folder in found for inner in folder.folders}}
    for names in emptied:
        yield Leftover(entries[names], "folder", reason, export.requests, source)
    if strangers:
        at.left.append(Left(export.path, f"{strangers} file(s) in this tree are not of the export"))


def _is_ours(folder: Listed, entry: Entry, top: Entry) -> bool:
    suffix = entry.name.rpartition(b".")[2].lower()
    if folder.names == top.names and entry.name in (b"data.yaml", MARKER.encode()):
        return True
    return suffix in OURS
