# SPDX-License-Identifier: Apache-2.0
"""Rank training data (samples, subjects or contributors) by its harm to a model, by three estimates.

The search uses the validation split alone, so that the test split can judge its effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.bias.attribution.ranking import LABELS, SAMPLE, SUBJECT, check_ranking, rank
from expunge.bias.attribution.targets import Chosen, Target, check_split, choose, parse_target
from expunge.bias.groups import APART, Attributes, check_columns, group_samples, sizes
from expunge.bias.search import Search, SearchContext
from expunge.bias.workspace_groups import attributes_of, record_search
from expunge.catalog.dataset_store import get_version, load_samples
from expunge.errors import InputError
from expunge.progress import Progress
from expunge.storage.hashing import plain_json

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from expunge.bias.label_quality import Folds
    from expunge.data.types import Sample
    from expunge.tasks.protocol import Samples, Task
    from expunge.workspace import Workspace


def find(
    workspace: Workspace,
    search: Search,
    progress: Progress,
    out: Path | None = None,
    *,
    named: bool = False,
) -> dict[str, Any]:
    """Rank training data by its harm, and return the report of ``expunge bias find --json``.

    Args:
        workspace: The workspace with the model.
        search: Model, target and ranking.
        progress: Receives progress reports.
        out: A new or empty folder for the ranking, the list to forget and the contact sheet; None: no files.
        named: Whether the report names the top items; else it has counts only.

    Raises:
        InputError: If model, target, groups or ranking do not fit, or there is no error to explain. Nothing
            is then written.
    """
    from expunge.bias.attributed_models import states_of
    from expunge.bias.find_files import check_folder, write_files
    from expunge.bias.find_result import named_items, report_of
    from expunge.bias.label_quality import label_quality
    from expunge.tasks.yolo import yolo_task

    target = parse_target(search.target)
    check_split(search.split)
    check_ranking(search.ranked_by, search.top)
    if target.grouped and not search.columns:
        raise InputError("The groups are not named.", "The target is a group.", "Give --group COLUMN.")
    if out is not None:
        check_folder(out)
    context = _load_context(workspace, search, progress)
    folds = _check_folds(search, context)
    attributes = attributes_of(workspace, context.version, search.file)
    keys = _item_keys(context.train, attributes, search.by)
    task = yolo_task(context.opened, search.device)
    module = task.clone(context.opened.module)
    held = context.data(context.held)
    chosen, accuracy = _choose(workspace, search, target, context, attributes, task, module, held)
    points, states = states_of(task, module, context.train, context.model)
    estimates, kind = _attribute(task, points, context, held, chosen, search.seed, progress)
    doubts = label_quality(task, module, points, context, search.seed, progress, folds)
    ranking = rank(
        {**estimates, LABELS: doubts.scores},
        keys,
        search.by,
        ranked_by=search.ranked_by,
        top=search.top,
        seed=search.seed,
    )
    record_search(workspace, context.version.name, search.split)
    files = None
    if out is not None:
        files = write_files(out, context, ranking, keys, doubts, task, module, search)
    report = report_of(search, target, context, chosen, accuracy, ranking, doubts, states, kind, len(points))
    if named:
        report["top_items"] = named_items(ranking)
    return {**plain_json(report), "files": files}


def _load_context(workspace: Workspace, search: Search, progress: Progress) -> SearchContext:
    """Return model, dataset version and readable samples of a search."""
    from expunge.bias.attributed_models import find_live
    from expunge.exact.model import ErasableModel
    from expunge.tasks.class_map import check_fits, known_samples
    from expunge.tasks.file_checks import check_files
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
    checked = check_files(version.root, version.config, [s for s in samples if s.split != "test"])
    if checked.damaged:
        progress.say(
            f"note: {len(checked.damaged)} files are missing or changed, and are left out:"
            f" {checked.damaged[0].reason}"
        )
    train, held = ([s for s in checked.readable if s.split == n] for n in ("train", search.split))
    if not train:
        raise InputError(
            f"{version.label} has no training sample left that can be read.", "", "Nothing can be ranked."
        )
    if not held:
        raise InputError(
            f"{version.label} has no validation sample that can be read.",
            "The search uses the split val, so that the test split can judge its effect.",
            "Add validation data, and train on the new version.",
        )
    return SearchContext(published, opened, version, train, held, model)


def _check_folds(search: Search, context: SearchContext) -> Folds | None:
    """Return the folds of the cross-validation of labels, checked before any work; None: not requested."""
    from expunge.bias.folds import folds_of
    from expunge.bias.label_quality import Folds, subject_groups

    if search.folds is None:
        return None
    folds_of(subject_groups(context.train), search.folds)
    epochs = search.epochs or context.opened.train_args.get("epochs")
    if not isinstance(epochs, int) or epochs < 1:
        raise InputError(
            "The number of training epochs of the folds is unknown.",
            "The model's file does not record the epochs of its own training.",
            "Give --epochs.",
        )
    return Folds(search.folds, epochs)


def _item_keys(train: Sequence[Sample], attributes: Attributes, by: str) -> list[tuple[str, ...]]:
    """Return for each training sample the ranked items that it belongs to."""
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
    context: SearchContext,
    attributes: Attributes,
    task: Task,
    module: nn.Module,
    held: Samples,
) -> tuple[Chosen, float]:
    """Return the target's samples, and the model's accuracy on the validation samples."""
    from expunge.bias.attribution.checkpoints import misclassified_of

    groups = found = None
    if target.grouped:
        groups = group_samples(context.held, attributes, search.columns)
        found = sizes(groups, context.held)
        if target.value is not None and target.value not in groups.names:
            trained = group_samples(context.train, attributes, search.columns)
            if target.value in trained.names:
                raise InputError(
                    "The group is in the training data only.",
                    "No validation sample is in it, so harm to it cannot be measured.",
                    "Add validation data of the group.",
                )
            groups.number(target.value)
    mistaken = misclassified_of(task, module, held)
    minimum = workspace.settings.bias.minimum
    return choose(target, mistaken, groups, found, minimum), 1 - float(mistaken.mean())


def _attribute(
    task: Task,
    points: Sequence[Any],
    context: SearchContext,
    held: Samples,
    chosen: Chosen,
    seed: int,
    progress: Progress,
) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Return the gradient-based estimates, and the kind of gradients."""
    from expunge.bias.attribution.estimates import attribute

    progress.begin("gradients", sum(len(p.rows) + len(chosen.rows) for p in points))
    try:
        return attribute(task, points, context.training, held, chosen, seed=seed, on_images=progress.add)
    finally:
        progress.end()
