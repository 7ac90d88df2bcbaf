# SPDX-License-Identifier: Apache-2.0
"""Verification by replay: the training is repeated in a new process and workspace, and digests are compared.

The new workspace contains only the plan, the initial weights and a copy of the retained samples. The process
and its children refuse to open files of the original workspace or data folder.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge import processes
from expunge.data.export import export_version
from expunge.exact.composition import Composition
from expunge.storage.replay_folders import REPLAY_PREFIX

if TYPE_CHECKING:
    from expunge.data.types import Sample
    from expunge.exact.model import ErasableModel
    from expunge.workspace import Workspace


PROCESS = "expunge.models.replay_process"  # a name, since the module belongs to a higher layer
BLANK = "blank.expunge.png"


@dataclass(frozen=True)
class ReplayResult:
    """The digest of a replay, or the reason why it failed."""

    digest: str
    error: str = ""


def replay(workspace: Workspace, model: ErasableModel, composition: Composition) -> ReplayResult:
    """Return the result of training a composition of a model from scratch in a new workspace.

    Raises:
        InputError: If a retained file is missing or has changed.
    """
    from expunge.exact.model import plan_file

    folder = Path(tempfile.mkdtemp(prefix=f"{REPLAY_PREFIX}{os.getpid()}-"))
    try:
        data = folder / "data"
        exported = export_version(model.version, _training_samples(model), data)
        _add_blank_validation(exported)
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
        process = processes.run(
            PROCESS,
            folder=folder,
            environ={k: v for k, v in os.environ.items() if k != "EXPUNGE_WORKSPACE"},
            input=json.dumps(job),
            stdout=processes.PIPE,
            text=True,
        )
        answer = json.loads(process.stdout.splitlines()[-1]) if process.stdout.strip() else {}
        if "digest" in answer:
            return ReplayResult(str(answer["digest"]))
        return ReplayResult("", str(answer.get("error", f"the process left with code {process.returncode}")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _training_samples(model: ErasableModel) -> list[Sample]:
    """Return the training samples, which alone determine the weights; a replay needs no other files."""
    return [sample for sample in model.samples if sample.split == "train"]


def _add_blank_validation(exported: Path) -> None:
    """Add a blank validation image, which a dataset requires and a replay never reads."""
    import yaml
    from PIL import Image

    if exported.suffix != ".yaml":
        folder = next(f for f in sorted((exported / "val").iterdir()) if f.is_dir())
        Image.new("RGB", (8, 8)).save(folder / BLANK)
        return
    Image.new("RGB", (8, 8)).save(exported.with_name(BLANK))
    listing = exported.with_name(f"{BLANK}.txt")
    listing.write_text(f"./{BLANK}\n", encoding="utf-8")
    config = yaml.safe_load(exported.read_text(encoding="utf-8"))
    exported.write_text(
        yaml.safe_dump({**config, "val": listing.name}, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def _write_tables(model: ErasableModel, folder: Path) -> None:
    """Write the subjects of retained samples, which determine placement, and the list of public samples."""
    with open(folder / "subjects.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "subject", "risk"])
        for sample in _training_samples(model):
            for subject in sample.subjects:
                writer.writerow([sample.path, subject, model.risks.get(subject, "")])
    public = [s.path for s in _training_samples(model) if s.public]
    (folder / "public.txt").write_text("".join(f"{p}\n" for p in public), encoding="utf-8")


def _forbidden(workspace: Workspace, model: ErasableModel) -> list[Path]:
    """Return the original workspace and data folder, without folders that contain the interpreter."""
    required = (Path(sys.prefix).resolve(), Path(__file__).resolve(), Path(tempfile.gettempdir()).resolve())
    folders = [workspace.root.resolve(), model.version.root.resolve()]
    return [f for f in folders if not any(place.is_relative_to(f) for place in required)]
