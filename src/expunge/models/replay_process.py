# SPDX-License-Identifier: Apache-2.0
"""The child process of a replay: it trains in a new workspace and must not read the original one."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from expunge.catalog.dataset_store import add_version
from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.errors import ExpungeError
from expunge.exact.composition import Composition
from expunge.exact.worker import forbid_reads
from expunge.models import training
from expunge.progress import Progress
from expunge.workspace import Workspace

WATCH_SECONDS = 0.5
DELETE_SECONDS = 60.0
RETRY_SECONDS = 0.1


def main() -> int:
    """Read the job from standard input, train in a new workspace, and print the digest as JSON."""
    job = json.load(sys.stdin)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    watch = threading.Thread(target=_watch, args=(job["parent"], Path(job["folder"])), daemon=True)
    watch.start()
    forbid_reads(job["forbidden"])
    try:
        reply = {"digest": _train(job)}
    except ExpungeError as error:
        reply = error.as_json()
    finally:
        if os.getppid() != job["parent"]:
            watch.join()  # the watcher ends the process after it deleted the folder
    channel.write(json.dumps(reply) + "\n")
    channel.flush()
    return 0 if "digest" in reply else 2


def _watch(parent: int, folder: Path) -> None:
    """Delete the folder and end the process when the parent process is killed.

    The training may still be writing to the folder, so its deletion is repeated.
    """
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    deadline = time.monotonic() + DELETE_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(RETRY_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(3)


def _train(job: dict[str, Any]) -> str:
    folder = Path(job["folder"])
    workspace = Workspace.init(folder / "workspace")
    samples = scan(Path(job["data"]))
    table = folder / "subjects.csv"
    subjects = read_subjects(table) if len(table.read_text(encoding="utf-8").splitlines()) > 1 else None
    public = folder / "public.txt"
    samples = attach_subjects(samples, subjects, (str(public),) if public.stat().st_size else ())
    with workspace.session(write=True) as session:
        version = add_version(
            session, "replay", samples, key=workspace.key, full=False, new_consent=False, skip_erased=False
        )
    published = training.train(
        workspace,
        version.name,
        job["name"],
        from_plan=folder / "plan.json",
        composition=Composition.from_json(job["composition"]),
        forbidden=[Path(p) for p in job["forbidden"]],
        progress=Progress(),
    )
    return published.digest


if __name__ == "__main__":
    sys.exit(main())
