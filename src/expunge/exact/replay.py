# SPDX-License-Identifier: Apache-2.0
"""Proof by repetition: train again in a fresh process and an empty workspace, and compare digests.

The fresh workspace holds the plan, the initial weights and a copy of what is retained, and nothing else.
The process and its children refuse to open any file of the original workspace or data folder.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge import processes
from expunge.data.export import export_version
from expunge.exact.composition import Composition
from expunge.exact.leftovers import PREFIX

if TYPE_CHECKING:
    from expunge.data.types import Sample
    from expunge.exact.model import ErasableModel
    from expunge.workspace import Workspace


WATCH_SECONDS = 0.5
DELETE_SECONDS = 60.0
RETRY_SECONDS = 0.1
BLANK = "blank.expunge.png"


@dataclass(frozen=True)
class Replay:
    """What came out: the digest, or why it could not run."""

    digest: str
    error: str = ""


def replay(workspace: Workspace, model: ErasableModel, composition: Composition) -> Replay:
    """Train a composition of a model from scratch, elsewhere.

    Raises:
        InputError: If a retained file is gone or changed.
    """
    from expunge.exact.model import plan_file

    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        data = folder / "data"
        exported = export_version(model.version, _training_samples(model), data)
        _complete(exported)
        _write_tables(model, folder)
        original = plan_file(workspace, model.plan.digest)
        for name in ("plan.json", "initial.weights"):
            shutil.copyfile(original.with_name(name), folder / name)
        job = {
            "folder": str(folder),
            "parent": os.getpid(),
            "data": str(exported),
            "name": model.name,
            "composition": composition.as_json(),
            "forbidden": [str(p) for p in _forbidden(workspace, model)],
        }
        done = processes.run(
            "expunge.exact.replay",
            folder=folder,
            environ={k: v for k, v in os.environ.items() if k != "EXPUNGE_WORKSPACE"},
            input=json.dumps(job),
            stdout=processes.PIPE,
            text=True,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
        if "digest" in answer:
            return Replay(str(answer["digest"]))
        return Replay("", str(answer.get("error", f"the process left with code {done.returncode}")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _training_samples(model: ErasableModel) -> list[Sample]:
    """What the weights are a function of: no other file can keep a replay from running."""
    return [sample for sample in model.samples if sample.split == "train"]


def _complete(exported: Path) -> None:
    """Add a blank image to validate on, which a dataset must have and a replay never reads."""
    import yaml
    from PIL import Image

    if exported.suffix != ".yaml":
        folder = next(f for f in sorted((exported / "val").iterdir()) if f.is_dir())
        Image.new("RGB", (8, 8)).save(folder / BLANK)
        return
    Image.new("RGB", (8, 8)).save(exported.with_name(BLANK))
    listed = exported.with_name(f"{BLANK}.txt")
    listed.write_text(f"./{BLANK}\n", encoding="utf-8")
    told = yaml.safe_load(exported.read_text(encoding="utf-8"))
    exported.write_text(
        yaml.safe_dump({**told, "val": listed.name}, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def _write_tables(model: ErasableModel, folder: Path) -> None:
    """The subjects of retained samples (placement needs them) and the list of public samples."""
    with open(folder / "subjects.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "subject", "risk"])
        for sample in _training_samples(model):
            for subject in sample.subjects:
                writer.writerow([sample.path, subject, model.risks.get(subject, "")])
    public = [s.path for s in _training_samples(model) if s.public]
    (folder / "public.txt").write_text("".join(f"{p}\n" for p in public), encoding="utf-8")


def _forbidden(workspace: Workspace, model: ErasableModel) -> list[Path]:
    """The original workspace and data; not a folder that the interpreter itself lives in."""
    inside = (Path(sys.prefix).resolve(), Path(__file__).resolve(), Path(tempfile.gettempdir()).resolve())
    folders = [workspace.root.resolve(), model.version.root.resolve()]
    return [f for f in folders if not any(place.is_relative_to(f) for place in inside)]


def main() -> int:
    """The fresh process: reads the job, makes a workspace, trains, prints the digest."""
    from expunge.errors import ExpungeError
    from expunge.exact.worker import forbid

    job = json.load(sys.stdin)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    watch = threading.Thread(target=_watch, args=(job["parent"], Path(job["folder"])), daemon=True)
    watch.start()
    forbid(job["forbidden"])
    try:
        answer = {"digest": _train(job)}
    except ExpungeError as error:
        answer = error.as_json()
    finally:
        if os.getppid() != job["parent"]:
            watch.join()  # it ends the process, once the folder is gone
    channel.write(json.dumps(answer) + "\n")
    channel.flush()
    return 0 if "digest" in answer else 2


def _watch(parent: int, folder: Path) -> None:
    """Delete the folder and end the process when the command that asked for the replay is killed.

    The training may still be writing there, so one pass over the folder need not be enough.
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
    from expunge import training
    from expunge.catalog.datasets import add_version
    from expunge.data.scan import scan
    from expunge.data.subjects import attach, read_subjects
    from expunge.progress import Progress
    from expunge.workspace import Workspace

    folder = Path(job["folder"])
    workspace = Workspace.init(folder / "workspace")
    found = scan(Path(job["data"]))
    table = folder / "subjects.csv"
    people = read_subjects(table) if len(table.read_text(encoding="utf-8").splitlines()) > 1 else None
    listed = folder / "public.txt"
    found = attach(found, people, (str(listed),) if listed.stat().st_size else ())
    with workspace.session(write=True) as session:
        version = add_version(
            session, "replay", found, key=workspace.key, full=False, new_consent=False, skip_erased=False
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
