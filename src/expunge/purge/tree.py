# SPDX-License-Identifier: Apache-2.0
"""Reads folders without following links: every access is relative to an open folder.

Names are bytes, as in the operating system. A folder is opened component by component with ``O_NOFOLLOW``, so
that a component that is replaced by a link in between cannot lead out of the root.
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


class FileChanged(Exception):
    """A file or folder has changed since it was found."""


@dataclass(frozen=True, order=True)
class Root:
    """A folder below which files may be deleted.

    Attributes:
        path: Its real path.
        device, inode: Identity of the folder.
    """

    path: bytes
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path | bytes) -> Root:
        """Return the folder at a path, links resolved.

        Raises:
            OSError: If there is no folder.
        """
        real = os.path.realpath(os.fsencode(path))
        found = os.stat(real, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(real)
        return cls(real, found.st_dev, found.st_ino)

    @contextmanager
    def open(self, names: Names = ()) -> Iterator[int]:
        """Open the folder, or one below it, and yield the file descriptor.

        Raises:
            FileChanged: If the root is another folder now, or a component of the path is a link.
            OSError: If the folder cannot be read.
        """
        if os.path.realpath(self.path) != self.path:
            raise FileChanged("a folder above it is a link now")
        try:
            handle = os.open(self.path, FOLDER_FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileChanged("the folder is gone") from error
        try:
            found = os.fstat(handle)
            if (found.st_dev, found.st_ino) != (self.device, self.inode):
                raise FileChanged("another folder has its name now")
            for name in names:
                try:
                    inner = os.open(name, FOLDER_FLAGS, dir_fd=handle)
                except (FileNotFoundError, NotADirectoryError) as error:
                    raise FileChanged("a folder above it is gone, or is a link now") from error
                os.close(handle)
                handle = inner
                if os.fstat(handle).st_dev != self.device:
                    raise FileChanged("another disk is mounted above it")
            yield handle
        finally:
            os.close(handle)


@dataclass(frozen=True, order=True)
class Entry:
    """A file or folder below a root, in the state in which it was found.

    Attributes:
        root: The root.
        names: Components of its path relative to the root.
        folder: Whether it is a folder, which is identified by its inode alone.
        inode, size_bytes, mtime_ns: Identity and state of a file.
        links: Number of names (hard links) of the file.
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
        """Return the entry of a file or folder with the given status."""
        if stat.S_ISDIR(found.st_mode):
            return cls(root, names, True, found.st_ino, 0, 0, 1)
        return cls(root, names, False, found.st_ino, found.st_size, found.st_mtime_ns, found.st_nlink)

    @property
    def path(self) -> bytes:
        """The absolute path."""
        return b"/".join((self.root.path.rstrip(b"/"), *self.names))

    @property
    def name(self) -> bytes:
        """The last component of the path."""
        return self.names[-1]


@dataclass(frozen=True)
class FolderListing:
    """The content of one folder.

    Attributes:
        names: Components of the folder's path relative to the root.
        files: Regular files.
        folders: Folders.
        others: Names of everything else: links, pipes, mount points.
    """

    names: Names
    files: tuple[Entry, ...]
    folders: tuple[Entry, ...]
    others: tuple[bytes, ...]


def list_folder(root: Root, names: Names = ()) -> FolderListing:
    """Return the content of one folder.

    Raises:
        FileChanged: If the folder or its root has changed.
        OSError: If it cannot be read.
    """
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
    return FolderListing(names, tuple(files), tuple(folders), tuple(others))


def walk(
    root: Root, names: Names = (), enter: Callable[[Entry], bool] = lambda folder: True
) -> Iterator[FolderListing]:
    """Yield a folder and all folders below it, parents first; unreadable ones are skipped.

    Args:
        root: The root.
        names: Path of the folder relative to the root.
        enter: Returns whether to descend into a folder.
    """
    pending = [names]
    while pending:
        try:
            found = list_folder(root, pending.pop())
        except (OSError, FileChanged):
            continue
        yield found
        pending.extend(folder.names for folder in reversed(found.folders) if enter(folder))


def find_entry(root: Root, names: Names) -> Entry | None:
    """Return the regular file or folder with a path relative to the root; None if there is none."""
    if not names or any(name in (b"", b".", b"..") for name in names):
        return None
    try:
        with root.open(names[:-1]) as handle:
            found = os.stat(names[-1], dir_fd=handle, follow_symlinks=False)
    except (OSError, FileChanged):
        return None
    if stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and found.st_dev == root.device):
        return Entry.of(root, names, found)
    return None


@contextmanager
def open_entry(entry: Entry, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a file and yield the file descriptor.

    Raises:
        FileChanged: If it is another file now, or its size or modification time differs.
        OSError: If it cannot be opened with these flags.
    """
    with entry.root.open(entry.names[:-1]) as folder:
        try:
            handle = os.open(entry.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError as error:
            raise FileChanged("it is gone") from error
        try:
            check_unchanged(entry, os.fstat(handle))
            yield handle
        finally:
            os.close(handle)


def check_unchanged(entry: Entry, found: os.stat_result) -> None:
    """Raise ``FileChanged`` unless a status is that of the entry when it was found."""
    if Entry.of(entry.root, entry.names, found) != entry or found.st_dev != entry.root.device:
        raise FileChanged("it was replaced or modified")


def names_of(path: str | bytes) -> Names:
    """Return the components of a relative path."""
    return tuple(os.fsencode(path).split(b"/"))
