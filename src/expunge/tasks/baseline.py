# SPDX-License-Identifier: AGPL-3.0-or-later
"""Training with plain Ultralytics, as a baseline for erasable training.

It runs in its own process, because threads are pinned before torch is imported, and without network,
telemetry or plots. Ultralytics writes label caches beside the labels, so pass it a copy of the data set.
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
from expunge.tasks.quiet import environment, load_ultralytics
from expunge.training.fingerprint import environment_variables

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
    """Run ``YOLO(weights).train(...)`` in a child process and return its last weights and their cost.

    Args:
        data_yaml: A ``data.yaml``; for classification, the folder of the splits.
        out: Folder of the run; created if missing.
        weights: A ``.pt`` file, or a ``.yaml`` file to start from random weights.
        epochs: Number of epochs; there is no early stopping.
        imgsz: Image size in pixels.
        batch: Images per batch.
        seed: Ultralytics' seed.
        threads: Number of torch threads.
        overrides: Further Ultralytics settings; all others keep Ultralytics' defaults.

    Returns:
        ``weights`` (path), ``cpu_seconds`` (training epochs only, without start-up and final validation),
        ``epochs`` and ``images`` (training images per epoch).

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
    process = processes.run(
        "expunge.tasks.baseline",
        str(path),
        folder=out,
        environ={**os.environ, **environment(), **environment_variables(threads, "native")},
        capture_output=True,
        text=True,
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith(MARKER)]
    if process.returncode or not lines:
        tail = " ".join(process.stderr.strip().splitlines()[-1:])
        raise ExpungeError(
            "Ordinary training failed.", tail or "It left no result.", "See the settings in job.json."
        )
    result: dict[str, Any] = json.loads(lines[-1].removeprefix(MARKER))
    return result


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train in this process according to a job (see :func:`train_plain`) and return its result."""
    ultralytics = load_ultralytics()
    provide_fonts()
    import torch

    clock = {"start": 0.0, "end": 0.0}

    def pin_threads(trainer: Any) -> None:
        torch.set_num_threads(job["threads"])  # Ultralytics changes it when it selects the device

    def start_clock(trainer: Any) -> None:
        clock["start"] = time.process_time()

    def stop_clock(trainer: Any) -> None:
        clock["end"] = time.process_time()

    model = ultralytics.YOLO(job["weights"])
    model.add_callback("on_pretrain_routine_end", pin_threads)
    model.add_callback("on_train_start", start_clock)
    model.add_callback("on_train_epoch_end", stop_clock)
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
    """Copy a font to the folder where Ultralytics expects one, so that it does not download it."""
    import matplotlib
    from ultralytics.utils import USER_CONFIG_DIR

    source = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    USER_CONFIG_DIR.mkdir(parents=True, exist_ok=True)
    for name in FONTS:
        if not (USER_CONFIG_DIR / name).exists():
            shutil.copyfile(source, USER_CONFIG_DIR / name)


def main() -> int:
    """Run the job in the JSON file named on the command line; print its result as one marked JSON line."""
    os.environ.update({k: v for k, v in environment().items() if k not in os.environ})
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(MARKER + json.dumps(run(job)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
