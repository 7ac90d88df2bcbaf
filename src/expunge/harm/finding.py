# SPDX-License-Identifier: Apache-2.0
"""Finds which training data harms a model: ranks samples, subjects or contributors by three estimates.

What finds never judges: harm is looked for on the validation split alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.bias.groups import APART, Attributes, check_columns, group_samples, sizes
from expunge.bias.ranking import LABELS, SAMPLE, SUBJECT, TRAK, check_ranking, rank
from expunge.bias.targets import SPLIT, Chosen, Target, check_split, choose, parse_target
from expunge.catalog.datasets import get_version, load_samples
from expunge.errors import InputError
from expunge.exact.hashing import plain_json
from expunge.harm.grouping import attributes_of, note_found
from expunge.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from expunge.catalog.models import Published
    from expunge.data.types import Sample, Version
    from expunge.exact.model import ErasableModel
    from expunge.harm.labels import Folds
    from expunge.tasks.protocol import Samples, Task
    from expunge.tasks.yolo import Opened
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class Search:
    """What is looked for (the arguments of ``expunge bias find``).

    Attributes:
        model: ``NAME`` or ``NAME@V``.
        target: ``errors``, ``worst-group`` or ``group=VALUE``.
        columns: By what the target's groups are told; of several, by their combinations.
        file: A table of groups of its own.
        by: ``sample``, ``subject`` or a column: what is ranked.
        top: How many are named; None: 50 samples, or 5 of anything else.
        ranked_by: Which estimate gives the order.
        split: Only ``val`` is allowed.
        seed: Of sketches, folds and intervals.
        device: Where to compute.
        folds: K trainings, each without a part of the people, judge labels that no shard can; None: none.
        epochs: Of each of them; None: as on record in the model's file.
    """

    model: str
    target: str
    columns: tuple[str, ...] = ()
    file: Path | None = None
    by: str = SAMPLE
    top: int | None = None
    ranked_by: str = TRAK
    split: str = SPLIT
    seed: int = 0
    device: str = "cpu"
    folds: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Ground:
    """What a search works on.

    Attributes:
        published: The model.
        opened: Its file.
        version: The dataset version that it was trained on.
        train, held: Its training and validation samples, by path.
        model: The model as a function of its plan; None: it was adopted.
    """

    published: Published
    opened: Opened
    version: Version
    train: list[Sample]
    held: list[Sample]
    model: ErasableModel | None

    @cached_property
    def training(self) -> Samples:
        """The training samples as the model sees them: one cache of pictures for all who ask."""
        return self.data(self.train)

    def data(self, samples: Sequence[Sample]) -> Samples:
        """Return samples as the model sees them."""
        from expunge.tasks.yolo import samples_of

        return samples_of(self.opened, self.version.root, self.version.config, samples)


def find(
    workspace: Workspace,
    search: Search,
    progress: Progress,
    out: Path | None = None,
    *,
    named: bool = False,
) -> dict[str, Any]:
    """Rank training data by the harm that it does.

    Args:
        workspace: Where the model is.
        search: What is looked for.
        progress: Is told how far it is.
        out: A new or empty folder for the ranking, the list to forget and the contact sheet; None: no files.
        named: Whether to name what was found; else there are counts alone.

    Returns:
        What ``expunge bias find --json`` prints.

    Raises:
        InputError: If model, target, groups or ranking do not fit, or there is no error to explain. Nothing
            is written then.
    """
    from expunge.harm.files import check_folder, write_files
    from expunge.harm.found import named_items, report_of
    from expunge.harm.labels import doubts
    from expunge.harm.models import states_of
    from expunge.tasks.yolo import yolo_task

    target = parse_target(search.target)
    check_split(search.split)
    check_ranking(search.ranked_by, search.top)
    if target.grouped and not search.columns:
        raise InputError("The groups are not named.", "The target is a group.", "Give --group COLUMN.")
    if out is not None:
        check_folder(out)
    ground = _ground(workspace, search)
    folds = _folds(search, ground)
    attributes = attributes_of(workspace, ground.version, search.file)
    keys = _keys(ground.train, attributes, search.by)
    task = yolo_task(ground.opened, search.device)
    module = task.clone(ground.opened.module)
    held = ground.data(ground.held)
    chosen, accuracy = _choose(workspace, search, target, ground, attributes, task, module, held)
    points, states = states_of(task, module, ground.train, ground.model)
    estimates, kind = _attribute(task, points, ground, held, chosen, search.seed, progress)
    doubt = doubts(task, module, points, ground, search.seed, progress, folds)
    ranking = rank(
        {**estimates, LABELS: doubt.scores},
        keys,
        search.by,
        ranked_by=search.ranked_by,
        top=search.top,
        seed=search.seed,
    )
    note_found(workspace, ground.version.name, search.split)
    files = None
    if out is not None:
        files = write_files(out, ground, ranking, keys, doubt, task, module, search)
    report = report_of(search, target, ground, chosen, accuracy, ranking, doubt, states, kind, len(points))
    if named:
        report["top_items"] = named_items(ranking)
    return {**plain_json(report), "files": files}


def _ground(workspace: Workspace, search: Search) -> Ground:
    from expunge.exact.model import ErasableModel
    from expunge.harm.models import find_live
    from expunge.tasks.class_map import check_fits, known_samples
    from expunge.tasks.yolo import open_model

    published = find_live(workspace, search.model)
    model = None
    if published.plan_digest is not None:
        model = ErasableModel.open(workspace, published, Progress(quiet=True))
    with workspace.session() as session:
        version = get_version(session, published.dataset, published.dataset_version)
        samples = load_samples(session, version, without_erased=True)
    opened = open_model(workspace.root / published.weights)
    check_fits(opened, version.config, [s for s in samples if s.split == "train"])
    samples = known_samples(opened, version.config, samples)
    train, held = ([s for s in samples if s.split == split] for split in ("train", search.split))
    if not train:
        raise InputError(f"{version.label} has no training sample left.", "", "Nothing can be ranked.")
    if not held:
        raise InputError(
            f"{version.label} has no validation sample.",
            "Harm is looked for on the split val, so that the test split can judge.",
            "Add validation data, and train on the new version.",
        )
    return Ground(published, opened, version, train, held, model)


def _folds(search: Search, ground: Ground) -> Folds | None:
    """How labels are cross-validated; refused before anything is computed."""
    from expunge.harm.folds import folds_of
    from expunge.harm.labels import Folds, subject_groups

    if search.folds is None:
        return None
    folds_of(subject_groups(ground.train), search.folds)
    epochs = search.epochs or ground.opened.train_args.get("epochs")
    if not isinstance(epochs, int) or epochs < 1:
        raise InputError(
            "Nobody knows how long the models of the folds are to be trained.",
            "The model's file does not say how many epochs its own training had.",
            "Give --epochs.",
        )
    return Folds(search.folds, epochs)


def _keys(train: Sequence[Sample], attributes: Attributes, by: str) -> list[tuple[str, ...]]:
    """For each training sample the items that it belongs to."""
    if by == SAMPLE:
        return [(sample.path,) for sample in train]
    if by == SUBJECT:
        return [sample.subjects for sample in train]
    check_columns(attributes, (by,))
    values = (attributes.of_sample(sample, by) for sample in train)
    return [() if value in APART else (value,) for value in values]


def _choose(
    workspace: Workspace,
    search: Search,
    target: Target,
    ground: Ground,
    attributes: Attributes,
    task: Task,
    module: nn.Module,
    held: Samples,
) -> tuple[Chosen, float]:
    """The target's samples, and the share of the validation samples about which the model is right."""
    from expunge.bias.checkpoints import mistaken_of

    groups = found = None
    if target.grouped:
        groups = group_samples(ground.held, attributes, search.columns)
        found = sizes(groups, ground.held)
        if target.value is not None and target.value not in groups.names:
            trained = group_samples(ground.train, attributes, search.columns)
            if target.value in trained.names:
                raise InputError(
                    "The group is in the training data only.",
                    "No validation sample is of it, so there is nothing to tell harm by.",
                    "Add validation data of the group.",
                )
            groups.number(target.value)
    mistaken = mistaken_of(task, module, held)
    minimum = workspace.settings.bias.minimum
    return choose(target, mistaken, groups, found, minimum), 1 - float(mistaken.mean())


def _attribute(
    task: Task,
    points: Sequence[Any],
    ground: Ground,
    held: Samples,
    chosen: Chosen,
    seed: int,
    progress: Progress,
) -> tuple[dict[str, NDArray[np.float64]], str]:
    """The estimates by gradients, and what gradients they are."""
    from expunge.bias.attribution import attribute

    progress.begin("gradients", sum(len(p.rows) + len(chosen.rows) for p in points))
    try:
        return attribute(task, points, ground.training, held, chosen, seed=seed, on_images=progress.add)
    finally:
        progress.end()
