# SPDX-License-Identifier: Apache-2.0
"""Provides the reference models of an audit: trained for it and kept, or the shards of an erasable model.

References are trained on retained data only. Every erasure destroys them, since they may have been trained on
the data that it erases.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.erasure.reference_training import ReferenceJob, train_one, train_side_by_side
from expunge.errors import InputError
from expunge.exact.graph import retained_digest
from expunge.progress import Progress
from expunge.storage.hashing import json_digest, keyed_hash

if TYPE_CHECKING:
    from torch import nn

    from expunge.catalog.model_store import ModelVersion
    from expunge.erasure.audit_case import AuditCase, AuditOptions
    from expunge.unlearning.partition import Partition
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class References:
    """Trained reference models on disk.

    Attributes:
        folder: Folder with ``0.safetensors``, ``1.safetensors``, …
        weights: A weights file of the same architecture.
        origin: The numbers of newly trained and of reused references, in words.
    """

    folder: Path
    weights: Path
    origin: str

    def open(self, number: int) -> nn.Module:
        """Return the reference model with a number, counted from 0."""
        from safetensors.torch import load_file

        from expunge.tasks.yolo import open_model

        module = open_model(self.weights).module
        module.load_state_dict(load_file(str(self.folder / f"{number}.safetensors")))
        return module


def references(
    workspace: Workspace,
    case: AuditCase,
    parts: Partition,
    count: int,
    question: AuditOptions,
    progress: Progress,
) -> References:
    """Return ``count`` reference models; those that are missing are trained, several at once.

    A reference is the result of :meth:`~expunge.tasks.protocol.Task.retrain` on the retained training
    samples, with the recorded architecture and settings, from a random start. Reference i depends only on
    (seed, i).

    Args:
        workspace: The workspace, in which references are kept.
        case: The models and samples of the audit.
        parts: The partition of the samples.
        count: Number of references.
        question: Options of the audit.
        progress: Receives progress reports.

    Raises:
        InputError: If the number of training epochs is unknown.
    """
    recorded = (case.original.composition or {}).get("retrain_epochs")
    epochs = question.epochs or recorded
    if epochs is None:
        raise InputError(
            f"The number of training epochs of {case.original.label} is unknown.",
            "References are trained for as long, and its file does not record it.",
            "Give it with --epochs N.",
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
    _train_all(missing, question, progress)
    return References(folder, weights, f"{len(missing)} trained, {count - len(missing)} reused")


def _train_all(jobs: Sequence[ReferenceJob], question: AuditOptions, progress: Progress) -> None:
    """Train references, in parallel processes if the options and the cores allow it."""
    if not jobs:
        return
    from expunge.exact.runner import available_cores

    parallel = min(len(jobs), question.jobs or max(1, available_cores() // question.threads))
    if question.device != "cpu":
        parallel = 1
    per_model = jobs[0].epochs * len(jobs[0].rows)
    progress.begin(f"{len(jobs)} references", per_model * len(jobs))
    try:
        if parallel == 1:
            for job in jobs:
                train_one(job, progress.add)
            return
        train_side_by_side(jobs, parallel, lambda: progress.add(per_model))
    finally:
        progress.end()


def calibrators(workspace: Workspace, candidate: ModelVersion, question: AuditOptions) -> list[nn.Module]:
    """Return the shard models of an erasable model, trained on retained data, to calibrate attack scores.

    Each was trained on a part of the retained data, so they are not exchangeable with the merged model and
    cannot serve as its null distribution.

    Args:
        workspace: The workspace of the model.
        candidate: The erasable model.
        question: Options of the audit.

    Raises:
        InputError: If fewer than two shards are finished, or the level ``full`` requires true references.
    """
    from expunge.exact.composition import Composition
    from expunge.exact.model import ErasableModel
    from expunge.tasks.yolo import open_model

    if question.level == "full":
        raise InputError(
            f"{candidate.label} was trained erasable: it has shards, and no references.",
            "Each shard was trained on a part of the data and is not exchangeable with the merged model.",
            f"Prove exactness by replay instead: expunge verify {candidate.label} --replay.",
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
            f"It has {len(stages)} finished shard(s) of the retained data; a single one is the model itself.",
            "Audit at the level quick, or prove exactness with expunge verify --replay.",
        )
    opened = open_model(workspace.root / candidate.weights)
    found = []
    for shard, stage in sorted(stages.items()):
        module = copy.deepcopy(opened.module)
        module.load_state_dict(model.weights(Composition({shard: stage}))[0])
        found.append(module)
    return found


def destroy_references(workspace: Workspace) -> None:
    """Delete all references, since they may have been trained on data that is being erased."""
    shutil.rmtree(workspace.references, ignore_errors=True)
