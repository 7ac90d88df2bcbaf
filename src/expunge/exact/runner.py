# SPDX-License-Identifier: Apache-2.0
"""Trains what is missing of a graph, shards side by side, each in a process of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from expunge.data.types import DatasetConfig
from expunge.errors import ExpungeError, Preempted
from expunge.exact.checkpoint import write_atomically
from expunge.exact.composition import final, weights_of
from expunge.exact.fingerprint import environment_variables
from expunge.exact.graph import Graph, Node
from expunge.exact.plan import Plan
from expunge.exact.store import CheckpointStore

POLL_SECONDS = 0.2


@dataclass
class Finished:
    """A node that was trained: its cost and the digest of its deployable weights."""

    node: Node
    cpu_seconds: float
    digest: str
    size_bytes: int


@dataclass
class Training:
    """Everything that a run of a graph needs beside the graph.

    Attributes:
        plan: The constants.
        config: What the labels mean.
        root: The folder of images and labels.
        store: Where checkpoints are.
        initial: File of the initial weights.
        scratch: A folder for the start of the polish.
        fingerprint: Description of the environment, kept in every checkpoint.
        forbidden: Folders that the training processes must not read.
        jobs: Processes at once; 0: as many as the cores allow.
    """

    plan: Plan
    config: DatasetConfig
    root: Path
    store: CheckpointStore
    initial: Path
    scratch: Path
    fingerprint: dict[str, Any]
    forbidden: Sequence[Path] = ()
    jobs: int = 0
    on_images: Callable[[int], None] = lambda count: None
    on_node: Callable[[Finished], None] = lambda finished: None
    preempted: Callable[[], bool] = lambda: False
    _events: queue.Queue[tuple[int, dict[str, Any] | None]] = field(default_factory=queue.Queue)

    @property
    def workers(self) -> int:
        """How many training processes run at once."""
        return self.jobs or max(1, cores() // self.plan.threads)


def cores() -> int:
    """How many cores this process may use: a container or ``taskset`` may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def missing(graph: Graph, store: CheckpointStore) -> list[Node]:
    """Return the nodes that must be trained to publish the graph's model, parents first.

    Of a chain only what follows its last checkpoint; the public phase only if some chain starts there.
    """
    if graph.polish and store.has(graph.polish.key):
        return []
    tails: list[Node] = []
    needs_public = not graph.shards
    for chain in graph.shards.values():
        have = max((i for i, node in enumerate(chain) if store.has(node.key)), default=-1)
        needs_public |= have < 0
        tails += chain[have + 1 :]
    public = graph.public
    first = [public] if public and needs_public and not store.has(public.key) else []
    return first + tails + ([graph.polish] if graph.polish else [])


def train(graph: Graph, run: Training) -> list[Finished]:
    """Train what is missing.

    Raises:
        Preempted: If ``run.preempted`` said so; what was finished stays.
        ExpungeError: If a training process failed.
    """
    run.store.sweep()
    todo = missing(graph, run.store)
    finished: list[Finished] = []
    public = [n for n in todo if n.phase == "public"]
    finished += _parallel([public] if public else [], run, lambda chain: _parent_file(chain[0], run))
    chains: dict[int, list[Node]] = {}
    for node in todo:
        if node.phase == "shard":
            chains.setdefault(node.shard, []).append(node)
    finished += _parallel(list(chains.values()), run, lambda chain: _parent_file(chain[0], run))
    if graph.polish and graph.polish in todo:
        start = polish_start(run.scratch, run.store)
        unpolished = replace(final(graph), polish=False)
        state = weights_of(graph, unpolished, run.store, run.initial, run.plan)[0]
        write_weights(start, state)
        try:
            finished += _parallel([[graph.polish]], run, lambda chain: start)
        finally:
            start.unlink(missing_ok=True)
    return finished


def polish_start(scratch: Path, store: CheckpointStore) -> Path:
    """Return where the merge lies from which a model's polish starts, while that trains."""
    return scratch / f"{store.folder.name}.polish.weights"


def write_weights(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write bare tensors as safetensors."""
    from safetensors.torch import save

    contiguous = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(contiguous), "A weights file")


def _parent_file(node: Node, run: Training) -> Path:
    return run.store.path(node.parent) if node.parent else run.initial


def _parallel(chains: list[list[Node]], run: Training, start: Callable[[list[Node]], Path]) -> list[Finished]:
    waiting, running = list(enumerate(chains)), dict[int, subprocess.Popen[str]]()
    nodes = {node.key: node for chain in chains for node in chain}
    finished: list[Finished] = []
    try:
        while waiting or running:
            while waiting and len(running) < run.workers:
                index, chain = waiting.pop(0)
                running[index] = _spawn(index, chain, run, start(chain))
            if run.preempted():
                raise Preempted(
                    "The repair gave way to another erasure.",
                    "A forget of the same model came in between.",
                    "Nothing to do: what is still missing is trained by that command or by `expunge repair`.",
                )
            try:
                index, event = run._events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if event is None:
                code = running.pop(index).wait()
                if code:
                    raise _died(code)
            elif event["event"] == "images":
                run.on_images(event["count"])
            elif event["event"] == "node":
                done = Finished(
                    nodes[event["key"]], event["cpu_seconds"], event["digest"], event["size_bytes"]
                )
                finished.append(done)
                run.on_node(done)
            elif event["event"] == "error":
                raise ExpungeError(event["error"], event["reason"], event["next"])
    finally:
        for process in running.values():
            process.kill()
            process.wait()
        run._events = queue.Queue()
    return finished


def _spawn(index: int, chain: list[Node], run: Training, start: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, **environment_variables(run.plan.threads, run.plan.isa)}
    process = subprocess.Popen(
        [sys.executable, "-m", "expunge.exact.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    )
    events, text = run._events, json.dumps(_job(chain, run, start))

    def pump() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(text)
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            for line in process.stdout:
                events.put((index, json.loads(line)))
        finally:
            events.put((index, None))

    threading.Thread(target=pump, daemon=True).start()
    return process


def _job(chain: list[Node], run: Training, start: Path) -> dict[str, Any]:
    def rows(node: Node) -> list[list[Any]]:
        # Subjects stay behind: training needs none.
        return [
            [s.path, s.split, s.image_digest, s.label_digest, s.class_name, [], s.public]
            for s in node.samples
        ]

    return {
        "plan": run.plan.model_dump(mode="json"),
        "config": {"kind": run.config.kind, "names": run.config.names, "extra": run.config.extra},
        "root": str(run.root),
        "folder": str(run.store.folder),
        "start": str(start),
        "fingerprint": run.fingerprint,
        "parent": os.getpid(),
        "forbidden": [str(p) for p in run.forbidden],
        "nodes": [
            {
                "key": node.key,
                "schedule": astuple(node.schedule),
                "samples": rows(node),
            }
            for node in chain
        ],
    }


def _died(code: int) -> ExpungeError:
    reason = "It was killed, which on a full machine is what running out of memory looks like."
    return ExpungeError(
        "A training process ended before its work was done.",
        reason if code < 0 else f"It left with code {code}; its messages are above.",
        "Run the command again: it goes on from the last finished stage. Lower --batch if memory is short.",
    )
