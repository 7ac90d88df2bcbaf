# SPDX-License-Identifier: Apache-2.0
"""Training of the missing nodes of a graph in worker processes, with shards in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from expunge.data.types import DatasetConfig
from expunge.errors import EnvironmentChanged, ExpungeError, Preempted
from expunge.exact.composition import complete_composition, weights_of
from expunge.exact.graph import Graph, Node
from expunge.exact.store import CheckpointStore
from expunge.exact.workers import Workers
from expunge.storage.files import write_atomically
from expunge.training.plan import Plan

POLL_SECONDS = 0.2


@dataclass
class TrainedNode:
    """A trained node.

    Attributes:
        node: The node.
        cpu_seconds: CPU time of its training.
        digest: Digest of its deployable weights.
        size_bytes: Size of its checkpoint.
        measured: Digest of the measured arithmetic.
    """

    node: Node
    cpu_seconds: float
    digest: str
    size_bytes: int
    measured: str


@dataclass
class Training:
    """The settings of a run of a graph.

    Attributes:
        plan: The plan.
        config: The dataset's configuration.
        root: Folder of images and labels.
        store: The checkpoints.
        initial: File of the initial weights.
        scratch: Folder for the start weights of the polish.
        fingerprint: Fingerprint of the environment, stored in every checkpoint.
        expected: Measured digests of the existing checkpoints; a process that measures another one stops.
        forbidden: Folders that the training processes must not read.
        jobs: Number of parallel processes; 0: as many as the cores allow.
        on_images: Called with the number of images of every finished batch.
        on_node: Called with every finished node.
        preempted: Returns whether the training must stop.
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
    on_node: Callable[[TrainedNode], None] = lambda finished: None
    preempted: Callable[[], bool] = lambda: False

    @property
    def workers(self) -> int:
        """Number of parallel training processes."""
        return self.jobs or max(1, available_cores() // self.plan.threads)


def available_cores() -> int:
    """Return the number of cores that this process may use; a container or ``taskset`` may restrict them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def missing_nodes(graph: Graph, store: CheckpointStore) -> list[Node]:
    """Return the nodes to train for the graph's model, parents before children.

    They are the nodes after the last checkpoint of each chain, and the public phase only if a chain starts
    there.
    """
    if graph.polish and store.has(graph.polish.key):
        return []
    tails: list[Node] = []
    needs_public = not graph.shards
    for chain in graph.shards.values():
        last = max((i for i, node in enumerate(chain) if store.has(node.key)), default=-1)
        needs_public |= last < 0
        tails += chain[last + 1 :]
    public = graph.public
    first = [public] if public and needs_public and not store.has(public.key) else []
    return first + tails + ([graph.polish] if graph.polish else [])


def train(graph: Graph, run: Training) -> list[TrainedNode]:
    """Train the missing nodes of a graph.

    Raises:
        Preempted: If ``run.preempted`` returns True; finished nodes are kept.
        ExpungeError: If a training process fails.
    """
    run.store.sweep()
    nodes = missing_nodes(graph, run.store)
    finished: list[TrainedNode] = []
    public = [n for n in nodes if n.phase == "public"]
    chains: dict[int, list[Node]] = {}
    for node in nodes:
        if node.phase == "shard":
            chains.setdefault(node.shard, []).append(node)
    with Workers(run.plan.threads, run.plan.isa, run.store.folder) as workers:
        for group in ([public] if public else [], list(chains.values())):
            finished += _parallel(group, run, workers, lambda chain: _parent_file(chain[0], run))
        if graph.polish and graph.polish in nodes:
            start = polish_start(run.scratch, run.store)
            unpolished = replace(complete_composition(graph), polish=False)
            state = weights_of(graph, unpolished, run.store, run.initial, run.plan)[0]
            write_weights(start, state)
            try:
                finished += _parallel([[graph.polish]], run, workers, lambda chain: start)
            finally:
                start.unlink(missing_ok=True)
    return finished


def repeat(node: Node, run: Training, start: Path) -> TrainedNode:
    """Train one node from a given start file, with its checkpoint in the run's store."""
    with Workers(run.plan.threads, run.plan.isa, run.store.folder) as workers:
        return _parallel([[node]], run, workers, lambda chain: start)[0]


def measure_here(run: Training) -> str:
    """Return the digest that a training process of this environment measures (:mod:`expunge.exact.probe`).

    Raises:
        ExpungeError: If the process fails.
    """
    with Workers(run.plan.threads, run.plan.isa, run.store.folder) as workers:
        workers.submit(_job([], run, run.initial))
        while True:
            event = workers.next_event(POLL_SECONDS)
            if event is not None and event["event"] == "measured":
                return str(event["digest"])
            if event is not None and event["event"] == "error":
                raise _error(event)


def _error(event: dict[str, Any]) -> ExpungeError:
    kind = EnvironmentChanged if event["changed"] else ExpungeError
    return kind(event["error"], event["reason"], event["next"])


def polish_start(scratch: Path, store: CheckpointStore) -> Path:
    """Return the path of the merged weights from which a model's polish starts, used while it trains."""
    return scratch / f"{store.folder.name}.polish.weights"


def write_weights(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write tensors to a safetensors file."""
    from safetensors.torch import save

    contiguous = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(contiguous), "A weights file")


def _parent_file(node: Node, run: Training) -> Path:
    return run.store.path(node.parent) if node.parent else run.initial


def _parallel(
    chains: list[list[Node]], run: Training, workers: Workers, start: Callable[[list[Node]], Path]
) -> list[TrainedNode]:
    queue = list(chains)
    nodes = {node.key: node for chain in chains for node in chain}
    finished: list[TrainedNode] = []
    while queue or workers.busy:
        while queue and len(workers.busy) < run.workers:
            chain = queue.pop(0)
            workers.submit(_job(chain, run, start(chain)))
        if run.preempted():
            raise Preempted(
                "The repair was interrupted by another erasure.",
                "Another `expunge forget` of the same model was started.",
                "Nothing to do: that command or `expunge repair` trains the missing stages.",
            )
        event = workers.next_event(POLL_SECONDS)
        if event is None:
            continue
        if event["event"] == "images":
            run.on_images(event["count"])
        elif event["event"] == "node":
            node, size = nodes[event["key"]], event["size_bytes"]
            result = TrainedNode(node, event["cpu_seconds"], event["digest"], size, event["measured"])
            finished.append(result)
            run.on_node(result)
        elif event["event"] == "error":
            raise _error(event)
    return finished


def _job(chain: list[Node], run: Training, start: Path) -> dict[str, Any]:
    def rows(node: Node) -> list[list[Any]]:
        # Without subjects, which training does not need.
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
