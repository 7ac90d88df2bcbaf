# SPDX-License-Identifier: Apache-2.0
"""Trains what is missing of a graph, shards side by side, in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from expunge.data.types import DatasetConfig
from expunge.errors import EnvironmentChanged, ExpungeError, Preempted
from expunge.exact.checkpoint import write_atomically
from expunge.exact.composition import final, weights_of
from expunge.exact.graph import Graph, Node
from expunge.exact.plan import Plan
from expunge.exact.store import CheckpointStore
from expunge.exact.workers import Workers

POLL_SECONDS = 0.2


@dataclass
class Finished:
    """A node that was trained: its cost, the digest of its deployable weights, the measured arithmetic."""

    node: Node
    cpu_seconds: float
    digest: str
    size_bytes: int
    measured: str


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
        expected: What was measured where the checkpoints were made; where a process measures otherwise, it
            refuses.
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
    expected: Sequence[str] = ()
    forbidden: Sequence[Path] = ()
    jobs: int = 0
    on_images: Callable[[int], None] = lambda count: None
    on_node: Callable[[Finished], None] = lambda finished: None
    preempted: Callable[[], bool] = lambda: False

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
    chains: dict[int, list[Node]] = {}
    for node in todo:
        if node.phase == "shard":
            chains.setdefault(node.shard, []).append(node)
    with Workers(run.plan.threads, run.plan.isa, run.store.folder) as workers:
        for together in ([public] if public else [], list(chains.values())):
            finished += _parallel(together, run, workers, lambda chain: _parent_file(chain[0], run))
        if graph.polish and graph.polish in todo:
            start = polish_start(run.scratch, run.store)
            unpolished = replace(final(graph), polish=False)
            state = weights_of(graph, unpolished, run.store, run.initial, run.plan)[0]
            write_weights(start, state)
            try:
                finished += _parallel([[graph.polish]], run, workers, lambda chain: start)
            finally:
                start.unlink(missing_ok=True)
    return finished


def repeat(node: Node, run: Training, start: Path) -> Finished:
    """Train one node from a given file, into the run's store."""
    with Workers(run.plan.threads, run.plan.isa, run.store.folder) as workers:
        return _parallel([[node]], run, workers, lambda chain: start)[0]


def measure_here(run: Training) -> str:
    """Return what a training process of this environment measures (see :mod:`expunge.exact.probe`).

    Raises:
        ExpungeError: If it failed.
    """
    with Workers(run.plan.threads, run.plan.isa, run.store.folder) as workers:
        workers.give(_job([], run, run.initial))
        while True:
            event = workers.event(POLL_SECONDS)
            if event is not None and event["event"] == "measured":
                return str(event["digest"])
            if event is not None and event["event"] == "error":
                raise _error(event)


def _error(event: dict[str, Any]) -> ExpungeError:
    kind = EnvironmentChanged if event["changed"] else ExpungeError
    return kind(event["error"], event["reason"], event["next"])


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


def _parallel(
    chains: list[list[Node]], run: Training, workers: Workers, start: Callable[[list[Node]], Path]
) -> list[Finished]:
    waiting = list(chains)
    nodes = {node.key: node for chain in chains for node in chain}
    finished: list[Finished] = []
    while waiting or workers.busy:
        while waiting and len(workers.busy) < run.workers:
            chain = waiting.pop(0)
            workers.give(_job(chain, run, start(chain)))
        if run.preempted():
            raise Preempted(
                "The repair gave way to another erasure.",
                "A forget of the same model came in between.",
                "Nothing to do: what is still missing is trained by that command or by `expunge repair`.",
            )
        event = workers.event(POLL_SECONDS)
        if event is None:
            continue
        if event["event"] == "images":
            run.on_images(event["count"])
        elif event["event"] == "node":
            node, size = nodes[event["key"]], event["size_bytes"]
            done = Finished(node, event["cpu_seconds"], event["digest"], size, event["measured"])
            finished.append(done)
            run.on_node(done)
        elif event["event"] == "error":
            raise _error(event)
    return finished


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
        "root": os.path.abspath(run.root),
        "folder": os.path.abspath(run.store.folder),
        "start": os.path.abspath(start),
        "fingerprint": run.fingerprint,
        "expected": list(run.expected),
        "parent": os.getpid(),
        "forbidden": [os.path.abspath(p) for p in run.forbidden],
        "nodes": [
            {
                "key": node.key,
                "schedule": astuple(node.schedule),
                "samples": rows(node),
            }
            for node in chain
        ],
    }
