# SPDX-License-Identifier: Apache-2.0
"""Deletes the files of a survey, and stops at the first that has changed since.

A file with one name is overwritten with zeros before it is unlinked. On a file system that copies on write or
keeps snapshots, and on a disk that spreads its writes (an SSD), the old blocks may survive. A file with more
names (hard links) is never overwritten, since it may be an original.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from expunge.purge.tree import Entry, FileChanged, check_unchanged, open_entry

BLOCK = b"\0" * (1 << 20)
CAVEATS = (
    "A deleted file may survive in backups and snapshots; they are not known here.",
    "Overwriting reaches the old blocks only on a disk and a file system that write in place: not on SSDs "
    "that spread their writes, nor where the file system copies on write (btrfs, ZFS, APFS).",
    "A copy that was made elsewhere (another folder, machine, bucket or registry) is not found.",
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one deletion.

    Attributes:
        entry: The file or folder.
        deleted: Whether its name was deleted.
        overwritten: Whether its bytes were overwritten first.
        why: Why it was not deleted or not overwritten; empty if it was both.
    """

    entry: Entry
    deleted: bool
    overwritten: bool = False
    why: str = ""


def delete(entries: Sequence[Entry]) -> list[Outcome]:
    """Delete files, then the folders, innermost first.

    Returns:
        The outcome of each entry that was reached. The deletion ends at the first entry that has changed; an
        entry that cannot be deleted, for lack of permission or because it is not empty, does not end it.
    """
    outcomes: list[Outcome] = []
    deleted_names: Counter[int] = Counter()  # number of deleted names of each file, by inode
    files = [entry for entry in entries if not entry.folder]
    folders = sorted((e for e in entries if e.folder), key=lambda e: -len(e.names))
    for entry in [*files, *folders]:
        expected = replace(entry, links=entry.links - deleted_names[entry.inode])
        try:
            outcome = _remove_folder(entry) if entry.folder else _remove_file(expected)
            deleted_names[entry.inode] += outcome.deleted and not entry.folder
            outcomes.append(replace(outcome, entry=entry))
        except FileChanged as change:
            outcomes.append(Outcome(entry, False, why=f"changed since it was found: {change}"))
            break
        except OSError as error:
            outcomes.append(Outcome(entry, False, why=error.strerror or type(error).__name__))
    return outcomes


def _remove_file(entry: Entry) -> Outcome:
    """Overwrite and unlink a file.

    Raises:
        FileChanged: If it has changed since the survey.
        OSError: If it cannot be unlinked.
    """
    with entry.root.open(entry.names[:-1]) as folder:
        try:
            check_unchanged(entry, os.stat(entry.name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError as error:
            raise FileChanged("it is gone") from error
        overwritten, why = _overwrite(entry)
        # The name could still be swapped between this check and the unlink; no system call closes that gap.
        found = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        if (found.st_ino, found.st_dev) != (entry.inode, entry.root.device):
            raise FileChanged("another file has its name now")
        os.unlink(entry.name, dir_fd=folder)
    return Outcome(entry, True, overwritten, why)


def _overwrite(entry: Entry) -> tuple[bool, str]:
    """Overwrite a file with zeros; return whether this was done, and why not."""
    if entry.links > 1:
        more = entry.links - 1
        return False, f"not overwritten: {more} other name{'s' if more > 1 else ''} of the file remain"
    try:
        with open_entry(entry, os.O_WRONLY) as handle:
            remaining = entry.size_bytes
            while remaining > 0:
                remaining -= os.write(handle, BLOCK[:remaining])
            os.fsync(handle)
    except OSError as error:  # a read-only file can still be unlinked
        return False, f"not overwritten: {error.strerror or type(error).__name__}"
    return True, ""


def _remove_folder(entry: Entry) -> Outcome:
    """Remove an empty folder; raises as ``_remove_file`` does."""
    with entry.root.open(entry.names[:-1]) as folder:
        try:
            check_unchanged(entry, os.stat(entry.name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError as error:
            raise FileChanged("it is gone") from error
        os.rmdir(entry.name, dir_fd=folder)
    return Outcome(entry, True)
