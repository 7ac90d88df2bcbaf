# SPDX-License-Identifier: Apache-2.0
"""Trains a configuration with the exact API, measures it, and never trains the same checkpoint twice."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from benchmarks.configs import Config, Suite, make_plan
from expunge.data.types import Sample, Scan
from expunge.exact import runner
from expunge.exact.composition import complete_composition, weights_of
from expunge.exact.graph import Graph, Node, build_graph, rows_digest
from expunge.exact.store import CheckpointStore
from expunge.storage.hashing import json_digest
from expunge.tasks.base import get_task
from expunge.training.checkpoint import load_part
from expunge.training.fingerprint import fingerprint
from expunge.training.plan import Plan


@dataclass(frozen=True)
class Trained:
    """A trained configuration: graph, weights, CPU seconds of nodes by key.

    ``states`` is the published model: one state, or those of an ensemble.
    """

    plan: Plan
    graph: Graph
    states: list[dict[str, Any]]
    public_state: dict[str, Any]
    cpu_seconds: dict[str, float]
    size_bytes: int

    @property
    def total(self) -> float:
        """CPU seconds of the whole training."""
        return sum(self.cpu_seconds.values())


class Cache:
    """Checkpoints by all that they are a function of, so that configurations share what is equal.

    A node's own key covers the whole plan; two plans that differ only in the polish, say, have equal
    shards under different keys. ``content_keys`` says which are equal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def fill(self, keys: dict[str, str], store: CheckpointStore) -> dict[str, float]:
        """Put into ``store`` what is known; return the CPU seconds that each had cost."""
        known = {}
        for key, content in keys.items():
            note = self._folder / f"{content}.json"
            if note.is_file():
                shutil.copyfile(self._folder / f"{content}.safetensors", store.path(key))
                known[key] = float(json.loads(note.read_text())["cpu_seconds"])
        return known

    def add(self, keys: dict[str, str], finished: runner.TrainedNode, store: CheckpointStore) -> None:
        """Keep a checkpoint that was just trained."""
        content = keys[finished.node.key]
        shutil.copyfile(store.path(finished.node.key), self._folder / f"{content}.safetensors")
        note = {"cpu_seconds": finished.cpu_seconds, "digest": finished.digest, "phase": finished.node.phase}
        (self._folder / f"{content}.json").write_text(json.dumps(note))


@contextmanager
def workplace(given: Path | None) -> Iterator[tuple[Path, Cache]]:
    """Yield the folder for data and checkpoints (a temporary one where none is given) and its cache."""
    with tempfile.TemporaryDirectory() as temporary:
        work = given or Path(temporary)
        yield work, Cache(work / "cache")


def content_keys(plan: Plan, graph: Graph) -> dict[str, str]:
    """Return for each node key a digest of what the checkpoint is a function of, and nothing else."""
    dump = plan.model_dump(mode="json")
    base = {k: dump[k] for k in ("task", "names", "architecture", "seed", "threads", "isa")}
    keys: dict[str, str] = {}

    def add(node: Node, parents: list[str]) -> None:
        recipe = dict(dump["recipe"])
        if node.schedule.first_epoch == 0 and node.schedule.epochs == node.schedule.phase_epochs:
            recipe.pop("anneal")  # a phase of one stage ends where its stage ends
        recipe.pop("lr0")  # the schedule holds it
        freeze = 0 if node.phase == "public" else plan.freeze
        keys[node.key] = json_digest(
            [base, recipe, freeze, astuple(node.schedule), rows_digest(node.samples), parents]
        )

    if graph.public:
        add(graph.public, [])
    for chain in graph.shards.values():
        for node in chain:
            add(node, [keys[node.parent]] if node.parent else [])
    if graph.polish:
        add(graph.polish, [keys[chain[-1].key] for chain in graph.shards.values()])
    return keys


def train(suite: Suite, config: Config, found: Scan, seed: int, work: Path, cache: Cache | None) -> Trained:
    """Train a configuration (what the cache knows is not trained again) and merge it."""
    plan = make_plan(suite, config, found.config.names, seed)
    graph = build_graph(plan, found.samples, found.risks)
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    store, initial = CheckpointStore(folder / "checkpoints"), folder / "initial.weights"
    runner.write_weights(initial, get_task(plan.task).initial(plan))
    keys = content_keys(plan, graph)
    seconds = cache.fill(keys, store) if cache else {}
    run = runner.Training(
        plan, found.config, found.root, store, initial, folder, fingerprint(1, "native"), jobs=1
    )
    for done in runner.train(graph, run):
        seconds[done.node.key] = done.cpu_seconds
        if cache:
            cache.add(keys, done, store)
    published = weights_of(graph, complete_composition(graph), store, initial, plan)
    public = load_part(store.path(graph.public.key), "ema") if graph.public else {}
    size = sum(path.stat().st_size for path in store.folder.iterdir())
    shutil.rmtree(folder)
    return Trained(plan, graph, published, public, seconds, size)


def erasures(trained: Trained, found: Scan) -> dict[str, tuple[int, float]]:
    """Return for each private person (image passes, CPU seconds) of forgetting that person alone.

    CPU seconds are those that the same nodes took in the training, scaled by the images they keep: a
    stage's time is proportional to its images.
    """
    people = sorted({p for s in found.samples if s.split == "train" and not s.public for p in s.subjects})
    return {person: erasure(trained, found, {person}) for person in people}


def erasure(trained: Trained, found: Scan, people: set[str]) -> tuple[int, float]:
    """Return (image passes, CPU seconds) of forgetting some people together; see :func:`erasures`."""
    rest = [s for s in found.samples if not people & set(s.subjects)]
    after = build_graph(trained.plan, rest, found.risks)
    before = {(n.phase, n.shard, n.stage): n for n in trained.graph.nodes}
    have = {n.key for n in trained.graph.nodes}
    passes, seconds = 0, 0.0
    for node in after.nodes:
        if node.key not in have:
            old = before[node.phase, node.shard, node.stage]
            passes += node.passes
            seconds += trained.cpu_seconds[old.key] * node.passes / old.passes
    return passes, seconds


def expected(costs: dict[str, tuple[int, float]], weights: dict[str, float]) -> tuple[float, float]:
    """Return the mean (image passes, CPU seconds) over people with the given weights."""
    total = sum(weights[p] for p in costs)
    return tuple(sum(costs[p][i] * weights[p] for p in costs) / total for i in (0, 1))  # type: ignore[return-value]


def split(found: Scan, name: str) -> list[Sample]:
    """Return the samples of a split."""
    return [s for s in found.samples if s.split == name]


def score(suite: Suite, plan: Plan, states: Sequence[dict[str, Any]], found: Scan, name: str) -> float:
    """Return the suite's metric of weights (several: of their ensemble) on a split."""
    metrics = get_task(suite.task).evaluate(states, plan, found.config, found.root, split(found, name))
    return metrics[suite.metric]


def append(path: Path, record: dict[str, Any]) -> None:
    """Add one record to a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))


def spread(values: list[float], digits: int = 3, sign: str = "") -> str:
    """Return ``median (lowest–highest)``; a dash for nothing."""
    if not values:
        return "–"
    middle = f"{median(values):{sign}.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{sign}.{digits}f}–{max(values):{sign}.{digits}f})"
