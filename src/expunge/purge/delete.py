# SPDX-License-Identifier: Apache-2.0
"""Deletes exactly what was found, and stops where something is not what it was.

A file with one name is overwritten with zeros before it is unlinked. Where the file system copies on write,
keeps snapshots, or the disk spreads its writes (an SSD), the old blocks may live on all the same. A file with
further names (hard links) is never overwritten: it may be somebody's original.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from expunge.purge.tree import Changed, Entry, check, opened

BLOCK = b"\0" * (1 << 20)
CAVEATS = (
    "A deleted file may survive in backups and snapshots; they are not known here.",
    "Overwriting reaches the old blocks only on a disk and a file system that write in place: not on SSDs "
    "that spread their writes, nor where the file system copies on write (btrfs, ZFS, APFS).",
    "A copy that was made elsewhere (another folder, machine, bucket or registry) is not found.",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one entry.

    Attributes:
        entry: Which.
        deleted: Whether its name is gone.
        overwritten: Whether its bytes were overwritten first.
        why: Why it was not deleted, or not overwritten.
    """

    entry: Entry
    deleted: bool
    overwritten: bool = False
    why: str = ""


def delete(entries: Sequence[Entry]) -> list[Outcome]:
    """Delete files, then folders that are empty by then, the innermost first.

    Returns:
        An outcome for each entry that was reached. The first that had changed ends it: what comes after is
        left as it is. Something that may not be deleted does not end it.
    """
    outcomes: list[Outcome] = []
    gone: Counter[int] = Counter()  # names of each file that are deleted by now
    files = [entry for entry in entries if not entry.folder]
    folders = sorted((e for e in entries if e.folder), key=lambda e: -len(e.names))
    for entry in [*files, *folders]:
        now = replace(entry, links=entry.links - gone[entry.inode])
        try:
            done = _remove_folder(entry) if entry.folder else _remove_file(now)
            gone[entry.inode] += done.deleted and not entry.folder
            outcomes.append(replace(done, entry=entry))
        except Changed as change:
            outcomes.append(Outcome(entry, False, why=f"changed since it was found: {change}"))
            break
        except OSError as error:
            outcomes.append(Outcome(entry, False, why=error.strerror or type(error).__name__))
    return outcomes


def _remove_file(entry: Entry) -> Outcome:
    with entry.root.open(entry.names[:-1]) as folder:
        try:
            check(entry, os.stat(entry.name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError as error:
            raise Changed("it is gone") from error
        overwritten, why = _overwrite(entry)
        # Between this look and the unlink the name could still be swapped: no system call closes that gap.
        found = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        if (found.st_ino, found.st_dev) != (entry.inode, entry.root.device):
            raise Changed("another file has its name now")
        os.unlink(entry.name, dir_fd=folder)
    return Outcome(entry, True, overwritten, why)


def _overwrite(entry: Entry) -> tuple[bool, str]:
    if entry.links > 1:
        more = entry.links - 1
        return False, f"not overwritten: {more} other name{'s' if more > 1 else ''} of the file remain"
    try:
        with opened(entry, os.O_WRONLY) as handle:
            left = entry.size_bytes
            while left > 0:
                left -= os.write(handle, BLOCK[:left])
            os.fsync(handle)
    except OSError as error:  # read-only, or the disk refuses: its name can go all the same
        return False, f"not overwritten: {error.strerror or type(error).__name__}"
    return True, ""


def _remove_folder(entry: Entry) -> Outcome:
    with entry.root.open(entry.names[:-1]) as folder:
        try:
            check(entry, os.stat(entry.name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError as error:
            raise Changed("it is gone") from error
        os.rmdir(entry.name, dir_fd=folder)
    return Outcome(entry, True)
