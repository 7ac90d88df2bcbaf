# SPDX-License-Identifier: Apache-2.0
"""A process that has imported everything, and forks one child for each command that a test runs.

Every command is a process of its own, which can be killed and whose locks the system releases, but without
the seconds that importing torch takes; so are the training processes, which are forked rather than started.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys
import tempfile
import traceback
from importlib import import_module
from types import SimpleNamespace
from typing import Any

PIPE = -1


class Forked:
    """Stands in for the process that ``processes.start(MODULE)`` makes."""

    def __init__(self, module: str, *, folder: Any, environ: dict[str, str], **_: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        to_child, from_child = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(to_child[0], 0)
            os.dup2(from_child[1], 1)
            os.closerange(3, 1024)  # what a new program would not have: locks, pipes, the catalog
            os.environ.clear()
            os.chdir(folder)
            os.environ.update(environ, EXPUNGE_TEST_ROLE="worker")
            sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
            leave(import_module(module).main)
        os.close(to_child[0])
        os.close(from_child[1])
        with open(os.environ["EXPUNGE_TEST_PIDS"], "a") as file:
            file.write(f"{self.pid}\n")
        self.stdin = os.fdopen(to_child[1], "w", encoding="utf-8")
        self.stdout = os.fdopen(from_child[0], encoding="utf-8")
        self.code: int | None = None

    def wait(self) -> int:
        """Wait for its end; returns the exit code, negative after a signal."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def kill(self) -> None:
        """End it."""
        if self.code is None:
            os.kill(self.pid, 9)


def forked_run(module: str, *, input: str, folder: Any, environ: dict[str, str], **_: Any) -> Any:
    """Stands in for ``processes.run(MODULE)``."""
    process = Forked(module, folder=folder, environ=environ)
    process.stdin.write(input)
    process.stdin.close()
    out = process.stdout.read()
    return SimpleNamespace(stdout=out, returncode=process.wait())


def leave(main: Any) -> None:
    """Run a function and end this process as a program would."""
    code: Any = 1
    try:
        code = main()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = 1
        os._exit(code if isinstance(code, int) else 0)


def child(job: dict[str, Any]) -> None:
    """Be the command."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(job["stdout"], flags, 0o600), 1)
    os.dup2(os.open(job["stderr"], flags, 0o600), 2)
    os.closerange(3, 1024)
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    tempfile.tempdir = None  # TMPDIR may be another one here
    if job["fault"]:
        from robust.faults import Fault

        Fault(**job["fault"]).install()
    if job["argv"] is not None:
        from expunge.cli.main import cli

        leave(lambda: cli.main(job["argv"], prog_name="expunge"))
    leave(lambda: print(json.dumps(runpy.run_path(job["file"])[job["function"]](**job["arguments"]))))


def warm_up() -> None:
    """Import all that commands import when they are used, and train once, so that no child has to begin."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from benchmarks.inline import in_turn
    from robust import scenes

    from expunge.catalog.dataset_store import add_version
    from expunge.data.scan import scan
    from expunge.data.subjects import attach_subjects, read_subjects
    from expunge.erasure import execution
    from expunge.erasure.scope import ErasureRequest
    from expunge.evidence.verifier import VerifyOptions, verify
    from expunge.exact import replay, runner, workers
    from expunge.exact.planner import Options
    from expunge.models import training
    from expunge.progress import Progress
    from expunge.workspace import Workspace

    for name in (
        "cli.main",
        "cli.data",
        "cli.training",
        "cli.erasure",
        "models.replay_process",
        "data.export",
    ):
        import_module(f"expunge.{name}")

    original, runner._parallel = runner._parallel, in_turn
    with TemporaryDirectory() as name:
        folder, quiet = Path(name), Progress(quiet=True)
        workspace = Workspace.init(folder)
        source = scenes.make(folder / "data")
        found = attach_subjects(scan(source), read_subjects(folder / "data" / "subjects.csv"), ())
        with workspace.session(write=True) as session:
            add_version(session, "shop", found, key=workspace.key)
        options = Options(str(scenes.architecture(folder)), 2, 2, 2, 32, 4)
        training.train(workspace, "shop", "m", options=options, progress=quiet)
        execution.forget(workspace, ErasureRequest(subjects=("s03",)), quiet)
        verify(workspace, "m", VerifyOptions(), quiet)
        workspace._engine.dispose()  # SQLite must not have a file open across a fork
    runner._parallel = original
    workers.processes = SimpleNamespace(start=Forked, PIPE=PIPE)  # type: ignore[assignment]
    replay.processes = SimpleNamespace(run=forked_run, PIPE=PIPE)  # type: ignore[assignment]


def main() -> None:
    """Serve: a line of JSON in, a line of JSON out."""
    warm_up()
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, all of this process's memory
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            code = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
            print(json.dumps(code), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            child(job)
        print(json.dumps(pid), flush=True)


if __name__ == "__main__":
    main()
