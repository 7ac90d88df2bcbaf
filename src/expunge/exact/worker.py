# SPDX-License-Identifier: Apache-2.0
"""The training process: it reads jobs from standard input, trains their nodes, and writes JSON events.

It is a separate process because threads and instruction set can only be pinned before torch is imported. A
job contains no subjects and is passed through a pipe, so that no list of samples remains on disk.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expunge.errors import EnvironmentChanged, ExpungeError
from expunge.exact.compiler_stub import install_compiler_stub

PARTIAL_EVERY_SECONDS = 30.0


def main() -> int:
    """Run all jobs; return 0 at the end of the input, or 2 after an error was reported."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # keeps the output of libraries out of the event stream

    def report(**event: Any) -> None:
        output.write(json.dumps(event) + "\n")

    try:
        for number, line in enumerate(sys.stdin):
            job = json.loads(line)
            if number == 0:  # equal for all jobs of a command
                exit_with_parent(job["parent"])
                forbid_reads(job["forbidden"])
                install_compiler_stub()
            run(job, report, job["parent"])
            report(event="done")
    except ExpungeError as error:
        report(event="error", changed=isinstance(error, EnvironmentChanged), **error.as_json())
        return 2
    except MemoryError:
        text = {"error": "Training ran out of memory.", "reason": "", "next": "Lower --batch or --imgsz."}
        report(event="error", changed=False, **text)
        return 2
    return 0


def exit_with_parent(parent: int) -> None:
    """End this process when its parent ends; on systems other than Linux, each batch checks the parent.

    Otherwise a training could outlive a killed command and write a checkpoint that an erasure has destroyed.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(3)


def forbid_reads(folders: list[str]) -> None:
    """Raise PermissionError whenever this process opens a file in one of these folders (used by replays)."""
    if not folders:
        return
    prefixes = tuple(os.path.join(os.path.realpath(f), "") for f in folders)

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        if os.path.realpath(os.fsdecode(arguments[0])).startswith(prefixes):
            raise PermissionError("a replay tried to read the original workspace")

    sys.addaudithook(guard)


def run(job: dict[str, Any], report: Callable[..., None], parent: int) -> None:
    """Train the nodes of a job in their order, each from the checkpoint of the one before.

    Args:
        job: The job, see ``_job`` in :mod:`expunge.exact.runner`.
        report: Writes an event.
        parent: Process id of the parent.

    Raises:
        EnvironmentChanged: If the measured arithmetic is not the expected one.
    """
    import torch

    from expunge.data.types import DatasetConfig, Sample
    from expunge.exact.probe import measure
    from expunge.exact.store import CheckpointStore
    from expunge.storage.hashing import tensor_digest
    from expunge.tasks.base import get_task
    from expunge.training.checkpoint import save_state
    from expunge.training.fingerprint import MEASURED, environment_changed, measured_difference
    from expunge.training.plan import Plan
    from expunge.training.schedule import Stage
    from expunge.training.trainer import Hooks, cpu_seconds, run_stage

    plan = Plan.model_validate(job["plan"])
    torch.set_num_threads(plan.threads)
    task, store = get_task(plan.task), CheckpointStore(Path(job["folder"]))
    config = DatasetConfig(job["config"]["kind"], tuple(job["config"]["names"]), job["config"]["extra"])
    _pin_opencv()
    measured = measure(plan, config)
    report(event="measured", digest=measured)
    for other in job["expected"]:
        if other != measured:
            raise environment_changed(store.folder.name, [measured_difference(other, measured)])
    fingerprint = {**job["fingerprint"], MEASURED: measured}
    if not job["nodes"]:
        return  # a job for the measurement only
    state = _load_start(job["start"])
    task.build(plan)  # imports libraries before the time is measured
    for entry in job["nodes"]:
        before = cpu_seconds()
        samples = [Sample(*row) for row in entry["samples"]]
        schedule, key = Stage(*entry["schedule"]), entry["key"]
        partial = store.partial(key)
        resumed = _load_partial(partial, fingerprint)
        if resumed is not None:
            state = resumed
            report(event="images", count=(state.epoch - schedule.first_epoch) * len(samples))
        elif schedule.fresh:
            state = state.as_start()
        saved = [time.monotonic()]

        def images(count: int) -> None:
            if os.getppid() != parent:
                os._exit(3)  # the parent has ended
            report(event="images", count=count)

        def epoch(current: Callable[[], Any], partial: Path = partial, saved: list[float] = saved) -> None:
            if time.monotonic() - saved[0] > PARTIAL_EVERY_SECONDS:
                save_state(partial, current(), {"fingerprint": fingerprint})
                saved[0] = time.monotonic()

        data = task.data(plan, config, Path(job["root"]), samples)
        state = run_stage(task, plan, state, schedule, data, [s.path for s in samples], Hooks(images, epoch))
        save_state(store.path(key), state, {"key": key, "fingerprint": fingerprint})
        partial.unlink(missing_ok=True)
        report(
            event="node",
            key=key,
            cpu_seconds=cpu_seconds() - before,
            digest=tensor_digest(state.ema),
            measured=measured,
            size_bytes=store.path(key).stat().st_size,
        )


def _load_partial(partial: Path, fingerprint: dict[str, Any]) -> Any:
    """Return the intermediate state of a stage, if there is one from this environment."""
    from expunge.training.checkpoint import load_state
    from expunge.training.fingerprint import MEASURED, certain_differences

    if not partial.is_file():
        return None
    state, about = load_state(partial)
    before = about.get("fingerprint") or {}
    same = not certain_differences(before, fingerprint) and before.get(MEASURED) == fingerprint[MEASURED]
    return state if same else None


def _load_start(path: str) -> Any:
    from safetensors.torch import load_file

    from expunge.training.checkpoint import State, load_state

    if path.endswith(".weights"):
        tensors = load_file(path)
        return State(model=tensors, ema=dict(tensors))
    return load_state(Path(path))[0]


def _pin_opencv() -> None:
    import cv2

    cv2.setNumThreads(0)


if __name__ == "__main__":
    sys.exit(main())
