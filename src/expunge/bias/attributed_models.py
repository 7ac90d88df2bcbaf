# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a model's training for attribution: stage checkpoints, or the final model alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expunge.bias.attribution.checkpoints import Checkpoint
from expunge.catalog import model_store
from expunge.catalog.model_store import ModelVersion
from expunge.errors import InputError
from expunge.exact.graph import Graph, Node
from expunge.training.plan import Recipe
from expunge.training.schedule import Stage, learning_rate, warmup

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.types import Sample
    from expunge.exact.model import ErasableModel
    from expunge.tasks.protocol import Task
    from expunge.workspace import Workspace

FINAL_ONLY = "the final model alone"
STAGES = "stage checkpoints"


def find_live(workspace: Workspace, ref: str) -> ModelVersion:
    """Return a published model, after checking that it is the newest version and a single file.

    Raises:
        InputError: If it is superseded, an ensemble, or its file is missing.
    """
    with workspace.session() as session:
        published = model_store.find_model(session, ref)
        newest = model_store.find_model(session, published.name)
    if published.number != newest.number:
        raise InputError(
            f"{published.label} is superseded.",
            f"The newest version is {newest.label}; checkpoints are kept for that one.",
            f"Use {newest.label}.",
        )
    if not (workspace.root / published.weights).is_file():
        raise InputError(
            f"{published.label} has no single weights file in the workspace.",
            "It was purged, or it is an ensemble.",
            "Train with aggregate=average, or adopt one of its files.",
        )
    return published


def states_of(
    task: Task, module: nn.Module, train: Sequence[Sample], model: ErasableModel | None
) -> tuple[list[Checkpoint], str]:
    """Return the checkpoints, and their kind: ``stage checkpoints`` or ``the final model alone``.

    Args:
        task: Prepares models.
        module: The published model.
        train: The ranked training samples, by path.
        model: The erasable model; None: the model was adopted.
    """
    points = _stages(task, module, train, model) if model is not None else []
    if any(point.final for point in points):
        return points, STAGES
    return [Checkpoint(lambda: task.clone(module), np.arange(len(train)))], FINAL_ONLY


def _stages(task: Task, module: nn.Module, train: Sequence[Sample], model: ErasableModel) -> list[Checkpoint]:
    graph, store, recipe = model.graph, model.store, model.plan.recipe
    place = {sample.path: i for i, sample in enumerate(train)}
    finals = _finals(graph)
    points = []
    for node in graph.nodes:
        if not store.has(node.key):
            continue
        trained = {place[s.path] for s in node.samples}
        seen = trained | {place[s.path] for parent in _parents(graph, node) for s in parent.samples}
        rows = np.array(sorted(seen), dtype=np.int64)
        rate = total_rate(recipe, node.schedule) * np.array([float(row in trained) for row in rows])
        points.append(
            Checkpoint(
                partial(_load_checkpoint, task, module, store.path(node.key)),
                rows,
                rate,
                node.key in finals,
                node.shard if node.shard >= 0 else None,
            )
        )
    return points


def total_rate(recipe: Recipe, stage: Stage) -> float:
    """Return the sum over a stage's epochs of the learning rate in the middle of the epoch."""
    epochs = range(stage.first_epoch, stage.first_epoch + stage.epochs)
    return sum(learning_rate(recipe, stage, e, 0.5) * warmup(recipe, stage, e, 0.5) for e in epochs)


def _finals(graph: Graph) -> set[str]:
    """Return the keys of the states that the published model is made of."""
    if graph.polish is not None:
        return {graph.polish.key}
    ends = {chain[-1].key for chain in graph.shards.values()}
    return ends or ({graph.public.key} if graph.public is not None else set())


def _parents(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes from which a node's state descends."""
    first = [graph.public] if graph.public is not None and node is not graph.public else []
    if node.phase == "polish":
        return first + [n for chain in graph.shards.values() for n in chain]
    chain = graph.shards.get(node.shard, ())
    return first + [n for n in chain if n.stage < node.stage]


def _load_checkpoint(task: Task, module: nn.Module, path: Path) -> nn.Module:
    """Return the model with the EMA weights of a checkpoint."""
    from expunge.training.checkpoint import load_part

    state = copy.deepcopy(module)
    state.load_state_dict(load_part(path, "ema"))
    return task.clone(state)
