# SPDX-License-Identifier: Apache-2.0
"""Reference models of an audit: trained for it and kept, or the shards that an erasable training has anyway.

They are trained on retained data only. Somebody forgotten later is in them: every erasure destroys them.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import InputError
from expunge.exact.graph import retained_digest
from expunge.exact.hashing import json_digest, keyed_hash
from expunge.progress import Progress
from expunge.steps.reference_training import ReferenceJob, train_one, train_side_by_side

if TYPE_CHECKING:
    from torch import nn

    from expunge.catalog.models import Published
    from expunge.steps.audits import Case, Question
    from expunge.unlearning.partition import Partition
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class References:
    """Trained references on disk.

    Attributes:
        folder: Holds ``0.safetensors``, ``1.safetensors``, …
        weights: A file of the same architecture.
        origin: How many were trained now, and how many were there.
    """

    folder: Path
    weights: Path
    origin: str

    def open(self, number: int) -> nn.Module:
        """Return a reference."""
        from safetensors.torch import load_file

        from expunge.tasks.yolo import open_model

        module = open_model(self.weights).module
        module.load_state_dict(load_file(str(self.folder / f"{number}.safetensors")))
        return module


def references(
    workspace: Workspace,
    case: Case,
    parts: Partition,
    count: int,
    question: Question,
    progress: Progress,
) -> References:
    """Train what is missing of ``count`` references, several at once, and return where they are.

    A reference is what :meth:`~expunge.tasks.protocol.Task.retrain` makes of the retained training rows: the
    architecture and the settings on record, from a random start. Reference i depends on (seed, i) alone.

    Raises:
        InputError: If nobody knows how many epochs a training takes.
    """
    recorded = (case.original.composition or {}).get("retrain_epochs")
    epochs = question.epochs or recorded
    if epochs is None:
        raise InputError(
            f"Nobody knows how long to train a reference of {case.original.label}.",
            "Its file does not say with how many epochs it was trained.",
            "Say so with --epochs N.",
        )
    identity = {
        "retained": retained_digest(parts.retain),
        "original": case.original.digest,
        "epochs": epochs,
        "seed": question.seed,
    }
    folder = workspace.references / json_digest(identity)[:32]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    weights = workspace.root / case.original.weights
    jobs = [
        ReferenceJob(
            weights,
            case.version.root,
            case.version.config,
            parts.retain,
            epochs,
            keyed_hash(question.seed, "reference", i) >> 1,
            question.device,
            question.threads,
            folder / f"{i}.safetensors",
        )
        for i in range(count)
    ]
    missing = [job for job in jobs if not job.target.is_file()]
    _train(missing, question, progress)
    return References(folder, weights, f"{len(missing)} trained, {count - len(missing)} reused")


def _train(jobs: Sequence[ReferenceJob], question: Question, progress: Progress) -> None:
    if not jobs:
        return
    from expunge.exact.runner import cores

    at_once = min(len(jobs), question.jobs or max(1, cores() // question.threads))
    if question.device != "cpu":
        at_once = 1
    per_model = jobs[0].epochs * len(jobs[0].rows)
    progress.begin(f"{len(jobs)} references", per_model * len(jobs))
    try:
        if at_once == 1:
            for job in jobs:
                train_one(job, progress.add)
            return
        train_side_by_side(jobs, at_once, lambda: progress.add(per_model))
    finally:
        progress.end()


def calibrators(workspace: Workspace, candidate: Published, question: Question) -> list[nn.Module]:
    """Return the shards of an erasable model, none of which saw what is forgotten: calibrators, no null.

    They saw a part of the retained data each, so they are not exchangeable with the merged model.

    Raises:
        InputError: If there are none, or more was asked for than they can give.
    """
    from expunge.exact.composition import Composition
    from expunge.exact.model import ErasableModel
    from expunge.tasks.yolo import open_model

    if question.level == "full":
        raise InputError(
            f"{candidate.label} was trained erasable: it has shards, and no references.",
            "Shards saw a part of the data each and are not exchangeable with the merged model.",
            f"Prove it by repetition instead: expunge verify {candidate.label} --replay.",
        )
    model = ErasableModel.open(workspace, candidate, Progress(quiet=True))
    stages = {
        shard: chain[-1].stage
        for shard, chain in model.graph.shards.items()
        if model.store.has(chain[-1].key)
    }
    if len(stages) < 2:
        raise InputError(
            f"{candidate.label} has no shards that could serve as references.",
            f"{len(stages)} finished shard(s) of the retained data are there, and a single one is the "
            "model itself.",
            "Judge at the level quick, or prove it by repetition with expunge verify --replay.",
        )
    opened = open_model(workspace.root / candidate.weights)
    found = []
    for shard, stage in sorted(stages.items()):
        module = copy.deepcopy(opened.module)
        module.load_state_dict(model.weights(Composition({shard: stage}))[0])
        found.append(module)
    return found


def destroy_references(workspace: Workspace) -> None:
    """Delete all references: some saw what is being erased."""
    shutil.rmtree(workspace.references, ignore_errors=True)
