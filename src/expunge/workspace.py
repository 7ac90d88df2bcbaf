# SPDX-License-Identifier: Apache-2.0
"""The folder ``.expunge/``, which holds catalog, artefacts and keys."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import InputError, StorageError
from expunge.exact.leftovers import sweep

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from expunge.settings import WorkspaceSettings
    from expunge.steps.outcome import Outcome, Request

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
    """An opened workspace. Opening is cheap: the database is touched by the first session.

    Args:
        root: The folder ``.expunge``.
        clock: Returns the present moment, in UTC; every date of a request comes from it.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime] | None = None) -> None:
        self.root = root
        self.clock = clock or _now

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    @classmethod
    def init(cls, folder: str | Path = ".", catalog: str | None = None) -> Workspace:
        """Make a workspace in a folder; where there is one already, complete what is missing.

        Args:
            folder: Where.
            catalog: The URL of a PostgreSQL database for the catalog of a new workspace.
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
                workspace._settle_in(catalog)
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
    def open(cls, path: str | Path | None = None) -> Workspace:
        """Open a workspace.

        Args:
            path: The folder that holds ``.expunge``, or ``.expunge`` itself. Without it, the one named by
                EXPUNGE_WORKSPACE, or the nearest above the current folder, as git does.
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
                sweep()
                return cls(root)
        raise InputError(
            f"There is no workspace in {start}" + (" or above it." if named is None else "."),
            "A workspace is a folder .expunge that 'expunge init' makes.",
            "Make one with: expunge init",
        )

    @property
    def references(self) -> Path:
        """Folder of the models that audits compare with; derived, and trained anew where they are gone."""
        return self.root / "references"

    @property
    def audits(self) -> Path:
        """Folder of what audits found."""
        return self.root / "audits"

    @property
    def catalog(self) -> Path:
        """Path of the database."""
        return self.root / "catalog.sqlite"

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """Open a session on the catalog: committed at the end, rolled back after an error.

        What happened to requests in it is told to the log as soon as it is durable.

        Args:
            write: Take the write lock at once. Otherwise the first change takes it, and what was read before
                may by then be another's past.
        """
        from sqlalchemy.orm import Session

        from expunge.catalog.engine import EVENTS, begin_write, catalog_errors

        with catalog_errors(), Session(self._engine) as session, session.begin():
            if write:
                begin_write(session)
            yield session
        if session.info.get(EVENTS):
            from expunge.evidence import journal

            journal.flush(self)

    def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Read rows with plain SQL: for commands that must answer before SQLAlchemy is even imported.

        Args:
            sql: A query; ``:name`` stands for a value.
            values: The values.
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
        """The secret under which the suppression list is kept."""
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
        """Folder of the plans."""
        return self.folder("plans")

    @property
    def models(self) -> Path:
        """Folder of published models."""
        return self.folder("models")

    @property
    def checkpoints(self) -> Path:
        """Folder of training states."""
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
        """Folder for what is not finished; on the same disk as the rest, so that finishing is a rename."""
        return self.folder("tmp")

    def folder(self, name: str) -> Path:
        """Return a folder of the workspace; it is made where it is missing, for its owner alone."""
        path = self.root / name
        if not path.is_dir():
            try:
                path.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"The folder {path} cannot be made.",
                    error.strerror or str(error),
                    "See to it that the workspace's disk has space and may be written to.",
                ) from error
        return path

    def request(
        self,
        subjects: Sequence[str] = (),
        samples: Sequence[str] = (),
        *,
        class_name: str | None = None,
        dataset: str | None = None,
        models: Sequence[str] = (),
        method: str = "auto",
        defer: bool = False,
        delete_originals: bool = False,
        recipients: Sequence[str] = (),
        **opening: str | None,
    ) -> Request:
        """Open an erasure request, to be given to ``run``; arguments as of ``expunge request open``.

        Args:
            subjects: Ids of subjects.
            samples: Paths of samples.
            class_name: All samples of a class.
            dataset: Where to look.
            models: Only these; none: all that saw it.
            method: How.
            defer: Publish the interim models and leave the repair for later.
            delete_originals: Delete the images and labels from the user's folder, too.
            recipients: To whom the data was handed out.
            opening: ``received``, ``key``, ``ground``, … of :class:`expunge.queue.intake.Opening`.
        """
        from expunge.queue.intake import Opening, open_request
        from expunge.steps.outcome import Request
        from expunge.steps.scoping import Ask

        ask = Ask(
            subjects=tuple(subjects),
            samples=tuple(samples),
            class_name=class_name,
            dataset=dataset,
            models=tuple(models),
            method=method,
            defer=defer,
            delete_originals=delete_originals,
        )
        opened = open_request(self, ask, Opening(recipients=tuple(recipients), **opening))
        return Request(opened["request"], ask, opened)

    def run(self, request: Request | str, actor: str | None = None) -> Outcome:
        """Execute a request now: what ``expunge forget --yes`` does, with the same errors.

        Args:
            request: What ``request`` returned, or a request's id.
            actor: Who approves and runs it; None: the user of the operating system.

        Raises:
            InputError: If a second person must approve it first, or it was refused.
        """
        from expunge.queue.batch import run_one
        from expunge.steps.outcome import outcome_of

        return outcome_of(run_one(self, request, actor))

    def _settle_in(self, url: str) -> None:
        """Write down where the catalog is."""
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
        self.folder("keys")
        if self._key_path.exists():
            return
        if self._url is None and not self.query("SELECT name FROM sqlite_master WHERE name = 'suppression'"):
            suppressed = []
        else:
            suppressed = self.query("SELECT id FROM suppression LIMIT 1")
        if suppressed:
            _ = self.key  # missing where it is needed: an error, never a new one
        draft = self._key_path.with_name(f"{self._key_path.name}.{os.getpid()}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, self._key_path)  # the first of two processes wins
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    @cached_property
    def settings(self) -> WorkspaceSettings:
        """What ``settings.toml`` says, or the defaults."""
        from expunge.settings import load_settings

        return load_settings(self.root)

    @property
    def _url(self) -> str | None:
        """Where the catalog is, if it is not the file in the workspace."""
        if "settings" not in self.__dict__ and not (self.root / SETTINGS).exists():
            return None  # the common case, without the seconds that pydantic takes
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


def _now() -> datetime:
    return datetime.now(UTC)


def refuse_network_storage(path: Path) -> None:
    """Raise an error if a path is on a network file system: locks and renames are no safe thing there."""
    kind = file_system(path)
    if kind is not None and NETWORK.fullmatch(kind):
        raise StorageError(
            f"{path} is on a network file system ({kind}).",
            "Locks and renames cannot be relied on there, so a workspace could be damaged.",
            "Choose a folder on a local disk.",
        )


def file_system(path: Path) -> str | None:
    """Return the type of the file system that holds a path, or None where the system does not tell."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    real, best, kind = os.path.realpath(path), "", None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), fields[1])
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):  # of two mounts on one place, the later is seen
            best, kind = place, fields[2]
    return kind
