# SPDX-License-Identifier: Apache-2.0
"""Trains reference models, one in this process or several in parallel child processes."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from expunge import processes
from expunge.errors import ExpungeError
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    import subprocess

    from expunge.data.types import Sample

PROCESS = "expunge.erasure.reference_process"


@dataclass(frozen=True)
class ReferenceJob:
    """The training of one reference model.

    Attributes:
        weights: A weights file of the same architecture.
        root: Root folder of the dataset.
        config: Configuration of the dataset's labels.
        rows: The training samples.
        epochs: Number of epochs.
        seed: Seed of the start weights and of the order of samples.
        device: Torch device of the training.
        threads: Number of torch threads.
        target: File for the trained weights.
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
    """Train a reference in this process and write it to its target.

    Args:
        job: The training.
        images: Called with the number of images after each step.
    """
    import torch
    from safetensors.torch import save

    from expunge.tasks.yolo import open_model, samples_of, yolo_task

    opened, before = open_model(job.weights), torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        module = yolo_task(opened, job.device).retrain(
            opened.module,
            samples_of(opened, job.root, job.config, job.rows),
            epochs=job.epochs,
            generator=torch.Generator().manual_seed(job.seed),
            images=images,
        )
    finally:
        torch.set_num_threads(before)
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_atomically(job.target, save(tensors), "A reference")


def train_side_by_side(jobs: Sequence[ReferenceJob], at_once: int, done: Callable[[], None]) -> None:
    """Train references in parallel child processes.

    Args:
        jobs: The trainings.
        at_once: Number of parallel processes.
        done: Called after each training.

    Raises:
        ExpungeError: The first error of a child process; the other processes are killed.
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
    """Train a reference in a child process and wait for it."""
    process = processes.start(
        PROCESS, str(os.getpid()), folder=job.target.parent, stdin=processes.PIPE, stdout=processes.PIPE
    )
    running.append(process)
    if failed.is_set():  # another training failed while this process was being started
        process.kill()
    answer, _ = process.communicate(pickle.dumps(job))
    if process.returncode == 0:
        return
    try:
        error = json.loads(answer.splitlines()[-1])
    except (ValueError, IndexError):
        raise ExpungeError(
            "A process that trained a reference ended before its work was done.",
            f"It ended with exit code {process.returncode}.",
            "Run the command again: it trains the references that are missing.",
        ) from None
    raise ExpungeError(error["error"], error["reason"], error["next"])
