# SPDX-License-Identifier: Apache-2.0
"""The workspace: the folder ``.expunge/`` with catalog, artefacts and keys."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from expunge.errors import InputError, StorageError
from expunge.storage.replay_folders import delete_abandoned_replays

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from expunge.settings import WorkspaceSettings

FOLDER = ".expunge"
VARIABLE = "EXPUNGE_WORKSPACE"
SETTINGS = "settings.toml"
KEY_BYTES = 32
MOUNTS = Path("/proc/mounts")
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs\w*|glusterfs|ncpfs|davfs"
    r"|fuse\.(sshfs|rclone|s3fs|gcsfuse|glusterfs|davfs2?|ceph\S*|juicefs|goofys|mount-s3)"
)


class Workspace:
    """An opened workspace. The database is opened by the first session.

    Args:
        root: The folder ``.expunge``.
        clock: Returns the present moment in UTC, from which all dates of requests are computed; None: the
            system's clock.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime] | None = None) -> None:
        self.root = root
        self.clock = clock or _now

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    @classmethod
    def init(cls, folder: str | Path = ".", catalog: str | None = None) -> Self:
        """Create a workspace in a folder and return it; missing parts of an existing one are added.

        Args:
            folder: The folder in which ``.expunge`` is created, or ``.expunge`` itself.
            catalog: URL of a PostgreSQL database for the catalog of a new workspace; None: an SQLite file.

        Raises:
            StorageError: If the folder is on a network file system or cannot be written.
            InputError: If a URL is given and the workspace has settings or a catalog already.
        """
        folder = Path(os.path.abspath(folder))
        root = folder if folder.name == FOLDER else folder / FOLDER
        refuse_network_storage(root)
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)
            (root / ".gitignore").write_text("*\n", encoding="utf-8")
            workspace = cls(root)
            if catalog is not None:
                workspace._write_catalog_url(catalog)
            workspace._make_key()
        except OSError as error:
            raise StorageError(
                f"The workspace {root} cannot be made.",
                error.strerror or str(error),
                "Choose a folder on a local disk that you may write to.",
            ) from error
        with workspace.session():
            pass  # creates the catalog
        return workspace

    @classmethod
    def open(cls, path: str | Path | None = None) -> Self:
        """Return an existing workspace.

        Args:
            path: The folder that contains ``.expunge``, or ``.expunge`` itself; None: that named by the
                environment variable EXPUNGE_WORKSPACE, or else the nearest in the current folder and above.

        Raises:
            InputError: If there is no workspace.
            StorageError: If it is on a network file system.
        """
        named = path if path is not None else os.environ.get(VARIABLE) or None
        if named is not None:
            start = Path(os.path.abspath(named))
            candidates = [start] if start.name == FOLDER else [start / FOLDER]
        else:
            start = Path.cwd()
            candidates = [folder / FOLDER for folder in (start, *start.parents)]
        for root in candidates:
            if (root / "keys").is_dir():
                refuse_network_storage(root)
                delete_abandoned_replays()
                return cls(root)
        raise InputError(
            f"There is no workspace in {start}" + (" or above it." if named is None else "."),
            "A workspace is a folder .expunge that 'expunge init' makes.",
            "Make one with: expunge init",
        )

    @property
    def references(self) -> Path:
        """Folder of reference models, which are trained again if they are missing."""
        return self.root / "references"

    @property
    def audits(self) -> Path:
        """Folder of audit reports."""
        return self.root / "audits"

    @property
    def catalog(self) -> Path:
        """Path of the SQLite database."""
        return self.root / "catalog.sqlite"

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """Open a session on the catalog; it is committed at the end and rolled back after an error.

        After the commit, listeners are called if events of requests were recorded.

        Args:
            write: Take the write lock at once. Otherwise the first change takes it, and another process may
                have changed rows that were read before.

        Raises:
            RuntimeError: If events were recorded and there is no listener; the session is rolled back.
        """
        from sqlalchemy.orm import Session

        from expunge.catalog.engine import EVENTS, begin_write, catalog_errors

        with catalog_errors(), Session(self._engine) as session, session.begin():
            if write:
                begin_write(session)
            yield session
            recorded = session.info.get(EVENTS)
            if recorded and not _listeners:
                raise RuntimeError("events were recorded, and no log listens (evidence.journal)")
        if recorded:
            for listener in _listeners:
                listener(self)

    def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows of an SQL query without importing SQLAlchemy, for commands that must start fast.

        Args:
            sql: A query with named parameters, ``:name``.
            values: The values of the parameters.
        """
        if self._url is not None:
            from sqlalchemy import text

            with self.session() as session:
                found = session.execute(text(sql), values).mappings()
                return [dict(row) for row in found]
        if not self.catalog.exists():
            return []
        uri = f"{self.catalog.as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    @property
    def key(self) -> bytes:
        """The secret that keys the digests of the suppression list, 32 bytes.

        Raises:
            StorageError: If its file is missing, unreadable or damaged.
        """
        try:
            key = self._key_path.read_bytes()
        except OSError as error:
            raise StorageError(
                "The workspace's key cannot be read.",
                f"{self._key_path}: {error.strerror or error}",
                "Restore it from a backup: without it, what was erased cannot be recognised.",
            ) from error
        if len(key) != KEY_BYTES:
            raise StorageError(
                "The workspace's key is damaged.",
                f"{self._key_path} has {len(key)} bytes instead of {KEY_BYTES}.",
                "Restore it from a backup.",
            )
        return key

    @property
    def plans(self) -> Path:
        """Folder of plans."""
        return self.folder("plans")

    @property
    def models(self) -> Path:
        """Folder of published models."""
        return self.folder("models")

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.folder("checkpoints")

    @property
    def certificates(self) -> Path:
        """Folder of certificates."""
        return self.folder("certificates")

    @property
    def requests(self) -> Path:
        """Folder of erasure requests."""
        return self.folder("requests")

    @property
    def locks(self) -> Path:
        """Folder of lock files."""
        return self.folder("locks")

    @property
    def tmp(self) -> Path:
        """Folder for unfinished files; on the same disk, so that a rename completes them atomically."""
        return self.folder("tmp")

    def folder(self, name: str) -> Path:
        """Return a folder of the workspace; if missing, it is created with access for the owner only.

        Raises:
            StorageError: If it cannot be created.
        """
        path = self.root / name
        if not path.is_dir():
            try:
                path.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"The folder {path} cannot be made.",
                    error.strerror or str(error),
                    "Make sure that the workspace's disk has space and can be written.",
                ) from error
        return path

    def _write_catalog_url(self, url: str) -> None:
        """Write the URL of the catalog to the settings; an invalid URL is taken back."""
        file = self.root / SETTINGS
        if file.exists() or self.catalog.exists():
            raise InputError(
                "The workspace has settings or a catalog already.",
                "Only a new one can be put into a database.",
                "Choose another folder.",
            )
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(f"[catalog]\nurl = {json.dumps(url)}\n")
        try:
            _ = self.settings
        except InputError:
            file.unlink()
            raise

    @property
    def _key_path(self) -> Path:
        return self.root / "keys" / "suppression.key"

    def _make_key(self) -> None:
        """Create the key, unless there is one.

        Raises:
            StorageError: If the key is missing although the suppression list has entries.
        """
        self.folder("keys")
        if self._key_path.exists():
            return
        if self._url is None and not self.query("SELECT name FROM sqlite_master WHERE name = 'suppression'"):
            suppressed = []
        else:
            suppressed = self.query("SELECT id FROM suppression LIMIT 1")
        if suppressed:
            _ = self.key  # raises: a new key could not recognise the existing entries
        draft = self._key_path.with_name(f"{self._key_path.name}.{os.getpid()}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, self._key_path)  # atomic: of two processes, the first creates the key
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    @cached_property
    def settings(self) -> WorkspaceSettings:
        """The settings in ``settings.toml``, or the defaults."""
        from expunge.settings import load_settings

        return load_settings(self.root)

    @property
    def _url(self) -> str | None:
        """URL of the catalog; None: the SQLite file in the workspace."""
        if "settings" not in self.__dict__ and not (self.root / SETTINGS).exists():
            return None  # avoids the slow import of pydantic
        return self.settings.catalog.url

    @cached_property
    def _engine(self) -> Engine:
        from expunge.catalog.engine import open_engine

        if self._url is not None and self.catalog.exists():
            raise InputError(
                "The workspace has two catalogs.",
                f"Its settings name a database, but {self.catalog.name} is there as well.",
                "Take catalog.url out of settings.toml; a new workspace is put into a database by"
                " `expunge init --catalog URL`.",
            )
        return open_engine(self._url or self.catalog)


_listeners: list[Callable[[Workspace], object]] = []


def on_events(listener: Callable[[Workspace], object]) -> None:
    """Register a function to be called after each session that recorded events of requests."""
    _listeners.append(listener)


def _now() -> datetime:
    return datetime.now(UTC)


def refuse_network_storage(path: Path) -> None:
    """Raise StorageError if a path is on a network file system, where locks and renames are unreliable."""
    kind = file_system(path)
    if kind is not None and NETWORK.fullmatch(kind):
        raise StorageError(
            f"{path} is on a network file system ({kind}).",
            "Locks and renames cannot be relied on there, so a workspace could be damaged.",
            "Choose a folder on a local disk.",
        )


def file_system(path: Path) -> str | None:
    """Return the type of the file system of a path; None if it is unknown."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    real, best, kind = os.path.realpath(path), "", None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount_point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), fields[1])
        inside = real == mount_point or real.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= len(best):  # a later mount on the same point hides the earlier one
            best, kind = mount_point, fields[2]
    return kind
