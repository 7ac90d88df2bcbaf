# SPDX-License-Identifier: Apache-2.0
"""A training process: reads jobs on standard input, trains their stages, reports in JSON lines.

A process of its own because threads and instruction set can only be pinned before torch is imported. A
job names no subject; it comes through a pipe so that no list of samples is left on disk.
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
from expunge.exact.lean import without_compiler

PARTIAL_EVERY_SECONDS = 30.0


def main() -> int:
    """Run the jobs; exit 0 when no more can come, or 2 after an error was reported."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # nothing that a library prints may mix with the reports

    def report(**event: Any) -> None:
        channel.write(json.dumps(event) + "\n")

    try:
        for number, line in enumerate(sys.stdin):
            job = json.loads(line)
            if number == 0:  # the same for all jobs of a command
                die_with(job["parent"])
                forbid(job["forbidden"])
                without_compiler()
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


def die_with(parent: int) -> None:
    """Let the system end this process when its parent ends; elsewhere than on Linux each batch looks for it.

    A training that outlived a killed command could write a checkpoint after an erasure destroyed it.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(3)


def forbid(folders: list[str]) -> None:
    """Make every file below these folders unreadable to this process (a replay must not look there)."""
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
    """Train the job's nodes one after the other, each from the one before."""
    import torch

    from expunge.data.types import DatasetConfig, Sample
    from expunge.exact.checkpoint import save_state
    from expunge.exact.fingerprint import MEASURED, arithmetic, environment_changed
    from expunge.exact.hashing import tensor_digest
    from expunge.exact.plan import Plan
    from expunge.exact.probe import measure
    from expunge.exact.schedule import Stage
    from expunge.exact.store import CheckpointStore
    from expunge.exact.trainer import Hooks, cpu_seconds, run_stage
    from expunge.tasks.base import get_task

    plan = Plan.model_validate(job["plan"])
    torch.set_num_threads(plan.threads)
    task, store = get_task(plan.task), CheckpointStore(Path(job["folder"]))
    config = DatasetConfig(job["config"]["kind"], tuple(job["config"]["names"]), job["config"]["extra"])
    _pin_opencv()
    measured = measure(plan, config)
    report(event="measured", digest=measured)
    for other in job["expected"]:
        if other != measured:
            raise environment_changed(store.folder.name, [arithmetic(other, measured)])
    fingerprint = {**job["fingerprint"], MEASURED: measured}
    if not job["nodes"]:
        return  # only the measurement was wanted
    state = _start(job["start"])
    task.build(plan)  # imports what it needs before the clock starts
    for entry in job["nodes"]:
        before = cpu_seconds()
        samples = [Sample(*row) for row in entry["samples"]]
        schedule, key = Stage(*entry["schedule"]), entry["key"]
        partial = store.partial(key)
        begun = _begun(partial, fingerprint)
        if begun is not None:
            state = begun
            report(event="images", count=(state.epoch - schedule.first_epoch) * len(samples))
        elif schedule.fresh:
            state = state.as_start()
        saved = [time.monotonic()]

        def images(count: int) -> None:
            if os.getppid() != parent:
                os._exit(3)  # nobody waits for this any more
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


def _begun(partial: Path, fingerprint: dict[str, Any]) -> Any:
    """Return the state in the midst of a stage, if there is one of this environment."""
    from expunge.exact.checkpoint import load_state
    from expunge.exact.fingerprint import MEASURED, difference

    if not partial.is_file():
        return None
    state, about = load_state(partial)
    before = about.get("fingerprint") or {}
    same = not difference(before, fingerprint) and before.get(MEASURED) == fingerprint[MEASURED]
    return state if same else None


def _start(path: str) -> Any:
    from safetensors.torch import load_file

    from expunge.exact.checkpoint import State, load_state

    if path.endswith(".weights"):
        tensors = load_file(path)
        return State(model=tensors, ema=dict(tensors))
    return load_state(Path(path))[0]


def _pin_opencv() -> None:
    import cv2

    cv2.setNumThreads(0)


if __name__ == "__main__":
    sys.exit(main())
