# SPDX-License-Identifier: Apache-2.0
"""Trains reference models, here or several at once in processes of their own."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from expunge import processes
from expunge.errors import ExpungeError
from expunge.exact.checkpoint import write_atomically
from expunge.exact.worker import die_with

if TYPE_CHECKING:
    import subprocess

    from expunge.data.types import Sample


@dataclass(frozen=True)
class ReferenceJob:
    """The training of one reference model.

    Attributes:
        weights: A file of the same architecture.
        root: The folder of the data set.
        config: What the labels mean.
        rows: The samples.
        epochs: How often each is shown.
        seed: Start weights and order follow from it.
        device: Where to train.
        threads: Threads of torch.
        target: Where the weights go.
    """

    weights: Path
    root: Path
    config: Any
    rows: tuple[Sample, ...]
    epochs: int
    seed: int
    device: str
    threads: int
    target: Path


def train_one(job: ReferenceJob, images: Callable[[int], None] = lambda count: None) -> None:
    """Train a reference in this process and write it to its target."""
    import torch
    from safetensors.torch import save

    from expunge.tasks.yolo import open_model, samples_of, yolo_task

    opened, before = open_model(job.weights), torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        made = yolo_task(opened, job.device).retrain(
            opened.module,
            samples_of(opened, job.root, job.config, job.rows),
            epochs=job.epochs,
            generator=torch.Generator().manual_seed(job.seed),
            images=images,
        )
    finally:
        torch.set_num_threads(before)
    tensors = {name: value.detach().cpu().contiguous() for name, value in made.state_dict().items()}
    write_atomically(job.target, save(tensors), "A reference")


def train_side_by_side(jobs: Sequence[ReferenceJob], at_once: int, done: Callable[[], None]) -> None:
    """Train references in processes, some at once; ``done`` is called after each.

    Raises:
        ExpungeError: The first error of any of them; the others are ended.
    """
    running: list[subprocess.Popen[bytes]] = []
    failed = Event()
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(_train_apart, job, running, failed) for job in jobs]
        try:
            for finished in as_completed(waiting):
                finished.result()
                done()
        except BaseException:
            failed.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.kill()
            raise


def _train_apart(job: ReferenceJob, running: list[subprocess.Popen[bytes]], failed: Event) -> None:
    """Train a reference in a process of its own and wait for it."""
    process = processes.start(
        __name__, str(os.getpid()), folder=job.target.parent, stdin=processes.PIPE, stdout=processes.PIPE
    )
    running.append(process)
    if failed.is_set():  # it was being started when another one failed
        process.kill()
    answer, _ = process.communicate(pickle.dumps(job))
    if process.returncode == 0:
        return
    try:
        error = json.loads(answer.splitlines()[-1])
    except (ValueError, IndexError):
        raise ExpungeError(
            "A process that trained a reference ended before its work was done.",
            f"It left with code {process.returncode}.",
            "Run the command again: it goes on with the references that are missing.",
        ) from None
    raise ExpungeError(error["error"], error["reason"], error["next"])


def main() -> int:
    """Train the job on standard input; ``python -m expunge.steps.reference_training PARENT``."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing that a library prints may mix with the answer
    die_with(int(sys.argv[1]))
    try:
        train_one(pickle.load(sys.stdin.buffer))  # from the process that started this one, and no other
    except ExpungeError as error:
        channel.write(json.dumps(error.as_json()) + "\n")
        channel.flush()
        return 2
    return 0


if __name__ == "__main__":
    # Under its own name, so that what the pipe brings is of the same class.
    from expunge.steps import reference_training

    sys.exit(reference_training.main())
