# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL server for the tests that want one, and a workspace whose catalog is in it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from requests_kit import Clock

from expunge.workspace import Workspace


def binary(name: str) -> str | None:
    """Return a program of the server's, also where the system keeps it off the path."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or (str(places[0]) if places else None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of the test's own, on a socket; returns the URL of its databases, but for their name."""
    pytest.importorskip("pg8000", reason="NOT TESTED: pg8000 is not installed")
    if binary("initdb") is None or binary("pg_ctl") is None:
        pytest.skip("NOT TESTED: there is no PostgreSQL server on this machine")
    folder = Path(tempfile.mkdtemp(prefix="expunge-pg-"))
    as_user: dict[str, str] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        as_user["user"] = "postgres" if any(e.pw_name == "postgres" for e in pwd.getpwall()) else "nobody"
        os.chown(folder, pwd.getpwnam(as_user["user"]).pw_uid, -1)
    data, quiet = folder / "data", {"check": True, "stdout": subprocess.DEVNULL, **as_user}
    init = [
        str(binary("initdb")),
        "-A",
        "trust",
        "-U",
        "expunge",
        "--locale=C",
        "-E",
        "UTF8",
        "-D",
        str(data),
    ]
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    control = [str(binary("pg_ctl")), "-w", "-D", str(data)]
    try:
        subprocess.run(init, cwd=folder, **quiet)  # type: ignore[call-overload]
        log = str(folder / "log")
        subprocess.run([*control, "-l", log, "-o", options, "start"], cwd=folder, **quiet)  # type: ignore[call-overload]
        yield f"postgresql+pg8000://expunge@/{{}}?unix_sock={folder}/.s.PGSQL.5432"
    finally:
        subprocess.run(
            [*control, "-m", "immediate", "stop"], cwd=folder, stdout=subprocess.DEVNULL, **as_user
        )  # type: ignore[call-overload]
        shutil.rmtree(folder)


def sql(server: str, statement: str) -> None:
    """Run a statement outside of a transaction."""
    from sqlalchemy import create_engine

    engine = create_engine(server.format("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)[:60]
    sql(server, f'CREATE DATABASE "{name}"')
    return server.format(name)


@pytest.fixture
def workspace(url: str, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace whose catalog is in it."""
    workspace = Workspace.init(tmp_path, url)
    workspace.clock = Clock()
    yield workspace
    workspace._engine.dispose()
