# SPDX-License-Identifier: Apache-2.0
"""Looks at folders without ever following a link: every step is relative to an opened folder.

Names are bytes, as the system has them. A folder is opened component by component with ``O_NOFOLLOW``, so
that nothing which is swapped for a link in between can lead out of the root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Names = tuple[bytes, ...]


class Changed(Exception):
    """A file or folder is not what it was when it was looked at."""


@dataclass(frozen=True, order=True)
class Root:
    """A folder below which may be deleted: its real path, and which folder that was."""

    path: bytes
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path | bytes) -> Root:
        """Return the folder that a path leads to (raises OSError if there is none)."""
        real = os.path.realpath(os.fsencode(path))
        found = os.stat(real, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(real)
        return cls(real, found.st_dev, found.st_ino)

    @contextmanager
    def open(self, names: Names = ()) -> Iterator[int]:
        """Open the folder, or one below it.

        Raises:
            Changed: If the root is another folder by now, or a link stands in the way.
            OSError: If it may not be read.
        """
        if os.path.realpath(self.path) != self.path:
            raise Changed("a link stands above it now")
        try:
            handle = os.open(self.path, FOLDER_FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Changed("the folder is gone") from error
        try:
            found = os.fstat(handle)
            if (found.st_dev, found.st_ino) != (self.device, self.inode):
                raise Changed("another folder has its name now")
            for name in names:
                try:
                    inner = os.open(name, FOLDER_FLAGS, dir_fd=handle)
                except (FileNotFoundError, NotADirectoryError) as error:
                    raise Changed("a folder above it is gone, or is a link now") from error
                os.close(handle)
                handle = inner
                if os.fstat(handle).st_dev != self.device:
                    raise Changed("another disk is mounted above it")
            yield handle
        finally:
            os.close(handle)


@dataclass(frozen=True, order=True)
class Entry:
    """A file or folder below a root, as it was when it was looked at.

    Attributes:
        root: The folder that it is below.
        names: Its path relative to the root.
        folder: Whether it is a folder (of which only the inode counts).
        inode, size_bytes, mtime_ns: By which it is known again.
        links: How many names the file has.
    """

    root: Root
    names: Names
    folder: bool
    inode: int
    size_bytes: int
    mtime_ns: int
    links: int

    @classmethod
    def of(cls, root: Root, names: Names, found: os.stat_result) -> Entry:
        """Make the entry of a file or folder."""
        if stat.S_ISDIR(found.st_mode):
            return cls(root, names, True, found.st_ino, 0, 0, 1)
        return cls(root, names, False, found.st_ino, found.st_size, found.st_mtime_ns, found.st_nlink)

    @property
    def path(self) -> bytes:
        """The whole path."""
        return b"/".join((self.root.path.rstrip(b"/"), *self.names))

    @property
    def name(self) -> bytes:
        """The last part of the path."""
        return self.names[-1]


@dataclass(frozen=True)
class Listed:
    """What is in one folder: regular files and folders, and how many things of other kinds (links, pipes)."""

    names: Names
    files: tuple[Entry, ...]
    folders: tuple[Entry, ...]
    others: tuple[bytes, ...]


def listing(root: Root, names: Names = ()) -> Listed:
    """List one folder; what is mounted in it counts as of another kind."""
    files, folders, others = [], [], []
    with root.open(names) as handle:
        for name in sorted(os.fsencode(n) for n in os.listdir(handle)):
            try:
                found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except FileNotFoundError:
                continue
            entry = Entry.of(root, (*names, name), found)
            if stat.S_ISREG(found.st_mode):
                files.append(entry)
            elif stat.S_ISDIR(found.st_mode) and found.st_dev == root.device:
                folders.append(entry)
            else:
                others.append(name)
    return Listed(names, tuple(files), tuple(folders), tuple(others))


def walk(
    root: Root, names: Names = (), enter: Callable[[Entry], bool] = lambda folder: True
) -> Iterator[Listed]:
    """Yield every folder below (and with) one, parents first; unreadable and vanished ones are left out."""
    waiting = [names]
    while waiting:
        try:
            found = listing(root, waiting.pop())
        except (OSError, Changed):
            continue
        yield found
        waiting.extend(folder.names for folder in reversed(found.folders) if enter(folder))


def look(root: Root, names: Names) -> Entry | None:
    """Return the regular file or folder of that path, or None (a link is none)."""
    if not names or any(name in (b"", b".", b"..") for name in names):
        return None
    try:
        with root.open(names[:-1]) as handle:
            found = os.stat(names[-1], dir_fd=handle, follow_symlinks=False)
    except (OSError, Changed):
        return None
    if stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and found.st_dev == root.device):
        return Entry.of(root, names, found)
    return None


@contextmanager
def opened(entry: Entry, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a file that was looked at.

    Raises:
        Changed: If it is another file by now, or its size or time differ.
        OSError: If it may not be opened so.
    """
    with entry.root.open(entry.names[:-1]) as folder:
        try:
            handle = os.open(entry.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError as error:
            raise Changed("it is gone") from error
        try:
            check(entry, os.fstat(handle))
            yield handle
        finally:
            os.close(handle)


def check(entry: Entry, found: os.stat_result) -> None:
    """Raise ``Changed`` unless a file or folder is the one that was looked at."""
    if Entry.of(entry.root, entry.names, found) != entry or found.st_dev != entry.root.device:
        raise Changed("it is another one, or has changed")


def names_of(path: str | bytes) -> Names:
    """Split a relative path."""
    return tuple(os.fsencode(path).split(b"/"))
