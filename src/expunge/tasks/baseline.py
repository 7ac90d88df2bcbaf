# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ordinary training with stock Ultralytics: the baseline that erasable training is held against.

It runs in a process of its own (threads are pinned before torch is imported), without network, telemetry
or plots. Ultralytics leaves label caches beside the labels: hand it a data set of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge import processes
from expunge.errors import ExpungeError
from expunge.exact.fingerprint import environment_variables
from expunge.tasks.quiet import environment, load_ultralytics

FONTS = ("Arial.ttf", "Arial.Unicode.ttf")
MARKER = "expunge-baseline:"
SILENT = {
    "plots": False,
    "verbose": False,
    "val": False,
    "workers": 0,
    "device": "cpu",
    "deterministic": True,
}


def train_plain(
    data_yaml: Path,
    out: Path,
    *,
    weights: str,
    epochs: int,
    imgsz: int,
    batch: int,
    seed: int,
    threads: int,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run ``YOLO(weights).train(...)`` and return its last weights and what it cost.

    Args:
        data_yaml: A ``data.yaml``, or for classification the folder of splits.
        out: Folder for the run; made anew.
        weights: A ``.pt``, or a ``.yaml`` to start from random weights.
        epochs: Epochs; there is no early stopping.
        imgsz: Image size in pixels.
        batch: Images per batch.
        seed: Ultralytics' seed.
        threads: Threads of torch.
        overrides: Further Ultralytics settings; what is not given stays at Ultralytics' default.

    Returns:
        ``weights`` (path), ``cpu_seconds`` (training epochs alone: no start-up, no final validation),
        ``epochs`` and ``images`` (training images seen in an epoch).

    Raises:
        ExpungeError: If the training failed.
    """
    job = {
        "data": str(data_yaml.absolute()),
        "out": str(out.absolute()),
        "weights": str(Path(weights).absolute()) if Path(weights).exists() else weights,
        "threads": threads,
        "settings": {"epochs": epochs, "imgsz": imgsz, "batch": batch, "seed": seed, **(overrides or {})},
    }
    out.mkdir(parents=True, exist_ok=True)
    path = (out / "job.json").absolute()
    path.write_text(json.dumps(job), encoding="utf-8")
    done = processes.run(
        "expunge.tasks.baseline",
        str(path),
        folder=out,
        environ={**os.environ, **environment(), **environment_variables(threads, "native")},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARKER)]
    if done.returncode or not lines:
        tail = " ".join(done.stderr.strip().splitlines()[-1:])
        raise ExpungeError(
            "Ordinary training failed.", tail or "It left no result.", "See the settings in job.json."
        )
    result: dict[str, Any] = json.loads(lines[-1].removeprefix(MARKER))
    return result


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train as the job says, in this process."""
    ultralytics = load_ultralytics()
    provide_fonts()
    import torch

    clock = {"start": 0.0, "end": 0.0}

    def pin(trainer: Any) -> None:
        torch.set_num_threads(job["threads"])  # Ultralytics sets its own number when it selects the device

    def start(trainer: Any) -> None:
        clock["start"] = time.process_time()

    def epoch_end(trainer: Any) -> None:
        clock["end"] = time.process_time()

    model = ultralytics.YOLO(job["weights"])
    model.add_callback("on_pretrain_routine_end", pin)
    model.add_callback("on_train_start", start)
    model.add_callback("on_train_epoch_end", epoch_end)
    settings = {**SILENT, **job["settings"]}
    settings.setdefault("patience", settings["epochs"])
    if job["weights"].endswith((".yaml", ".yml")):
        settings["pretrained"] = False
    out = Path(job["out"])
    model.train(data=job["data"], project=str(out), name="run", exist_ok=True, **settings)
    trainer = model.trainer
    return {
        "weights": str(trainer.last),
        "cpu_seconds": round(clock["end"] - clock["start"], 3),
        "epochs": settings["epochs"],
        "images": len(trainer.train_loader.dataset),
    }


def provide_fonts() -> None:
    """Put a font where Ultralytics looks for one before it would turn to the network."""
    import matplotlib
    from ultralytics.utils import USER_CONFIG_DIR

    source = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    USER_CONFIG_DIR.mkdir(parents=True, exist_ok=True)
    for name in FONTS:
        if not (USER_CONFIG_DIR / name).exists():
            shutil.copyfile(source, USER_CONFIG_DIR / name)


def main() -> int:
    """Run the job in the file that was named; print its result as one marked line of JSON."""
    os.environ.update({k: v for k, v in environment().items() if k not in os.environ})
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(MARKER + json.dumps(run(job)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
