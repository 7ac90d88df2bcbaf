# SPDX-License-Identifier: Apache-2.0
"""Measure how well published models serve each group of a dataset, and compare models.

A split on which ``expunge bias find`` searched cannot judge its effect; measuring on it gives a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.bias.groups import Attributes, group_boxes, group_samples
from expunge.bias.metrics.comparison import changes
from expunge.bias.metrics.detection import matched, working_point
from expunge.bias.metrics.readings import Classified, Detected, Reading
from expunge.bias.metrics.resampling import DRAWS
from expunge.bias.metrics.summary import Setting, summary
from expunge.bias.removal import ADVICE, removal
from expunge.bias.workspace_groups import attributes_of, searched_splits
from expunge.catalog import model_store
from expunge.catalog.dataset_store import get_version, load_samples, parse_ref
from expunge.catalog.model_store import ModelVersion
from expunge.data.types import Sample, Version
from expunge.erasure.scope import resolve_scope
from expunge.errors import InputError

if TYPE_CHECKING:
    from expunge.erasure.scope import ErasureRequest
    from expunge.tasks.loaded_model import LoadedModel
    from expunge.workspace import Workspace

BY = ("image", "object")


@dataclass(frozen=True)
class MeasureOptions:
    """Arguments of ``expunge bias measure``.

    Attributes:
        data: ``NAME`` or ``NAME@V`` of the dataset.
        columns: Columns to group by; with several, by their combinations.
        file: A separate table of groups.
        split: The split to measure on.
        by: ``image`` or ``object``: the units that a detector's groups consist of.
        confidence: Minimum confidence of a detector's boxes; None: where F1 over all groups is highest.
        draws: Number of bootstrap samples and of shuffles.
        seed: Seed of both.
        device: Where to compute.
    """

    data: str
    columns: tuple[str, ...]
    file: Path | None = None
    split: str = "test"
    by: str = "image"
    confidence: float | None = None
    draws: int = DRAWS
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class EvalData:
    """Data for measuring models.

    Attributes:
        version: The dataset version.
        samples: Readable samples of the split.
        training: Samples of the training split.
        attributes: Attributes of samples and subjects.
        left_out: Number of files of the split that cannot be read.
    """

    version: Version
    samples: list[Sample]
    training: list[Sample]
    attributes: Attributes
    left_out: int = 0


def measure(workspace: Workspace, model: str, question: MeasureOptions) -> dict[str, Any]:
    """Measure a model by group.

    Args:
        workspace: The workspace with model and dataset.
        model: ``NAME`` or ``NAME@V``.
        question: Data and groups.

    Returns:
        The output of ``expunge bias measure --json``; see :func:`expunge.bias.metrics.summary.summary`.

    Raises:
        InputError: If the model, the data, the split or a column is unknown, or they do not fit together.
    """
    data = load_eval_data(workspace, question)
    published, opened = _open(workspace, model, data)
    reading, setting = evaluate(opened, data, question, workspace.settings.bias.minimum)
    found = summary(reading, setting)
    return {
        "model": published.label,
        **_header(question, data, opened),
        **_confidence(reading),
        **found,
        "training_only": _training_only(data, question, setting),
        "warnings": _warnings(workspace, data, question, found),
    }


def compare(workspace: Workspace, models: Sequence[str], question: MeasureOptions) -> dict[str, Any]:
    """Measure several models on the same samples: for instance before, after and a reference.

    Returns:
        ``models``: for each the figures of :func:`measure`; ``changes`` from the first to each other model,
        see :func:`expunge.bias.metrics.comparison.changes`.

    Raises:
        InputError: See :func:`measure`; if there are fewer than two models, or their tasks differ.
    """
    if len(models) < 2:
        raise InputError(
            "A comparison needs two models.",
            "Fewer are given.",
            "Name the model before, and the model after.",
        )
    data = load_eval_data(workspace, question)
    readings: list[Reading] = []
    measured: list[dict[str, Any]] = []
    opened: list[LoadedModel] | None = None
    setting: Setting | None = None
    for ref in models:
        published, opened = _open(workspace, ref, data)
        reading, setting = evaluate(opened, data, question, workspace.settings.bias.minimum)
        if readings and reading.main != readings[0].main:
            raise InputError(
                f"{published.label} is for another task than {measured[0]['model']}.",
                "Their figures cannot be compared.",
                "Compare versions of one model.",
            )
        readings.append(reading)
        measured.append({"model": published.label, **_confidence(reading), **summary(reading, setting)})
    assert setting is not None
    assert opened is not None
    found = changes(readings, setting)
    warnings = _warnings(workspace, data, question, measured[0])
    if any(found["harmed"]):
        count = len({name for names in found["harmed"] for name in names})
        warnings.append(f"{count} of the groups are served worse than before. {ADVICE}")
    return {
        **_header(question, data, opened),
        "metric": readings[0].main,
        "models": measured,
        "changes": found,
        "training_only": _training_only(data, question, setting),
        "warnings": warnings,
    }


def removal_of(
    workspace: Workspace, request: ErasureRequest, columns: Sequence[str], file: Path | None = None
) -> dict[str, Any]:
    """Return what a request would remove from each group of the training split; nothing is changed.

    Returns:
        See :func:`expunge.bias.removal.removal`.

    Raises:
        InputError: If the selection or a column is unknown.
    """

    scope = resolve_scope(workspace, request)
    version = scope.selection.version
    with workspace.session() as session:
        rows = load_samples(session, version, "train", without_erased=True)
    groups = group_samples(rows, attributes_of(workspace, version, file), columns)
    erased = np.array([(s.path, s.arrived) in scope.taken for s in rows], dtype=bool)
    return removal(rows, groups, erased, workspace.settings.bias.minimum)


def load_eval_data(workspace: Workspace, question: MeasureOptions) -> EvalData:
    """Return the samples and attributes that a question selects.

    Raises:
        InputError: If the dataset, the split or a column is unknown.
    """
    from expunge.tasks.file_checks import check_files

    if question.by not in BY:
        raise InputError(f"--by {question.by} is not known.", "", f"Choose one of {', '.join(BY)}.")
    name, number = parse_ref(question.data)
    with workspace.session() as session:
        version = get_version(session, name, number)
        rows = load_samples(session, version, without_erased=True)
    attributes = attributes_of(workspace, version, question.file)
    samples = [s for s in rows if s.split == question.split]
    if not samples:
        present = ", ".join(sorted({s.split for s in rows})) or "none"
        raise InputError(
            f"{version.label} has no split {question.split!r}.", f"It has: {present}.", "Choose with --split."
        )
    group_samples(
        samples[:1], attributes, question.columns
    )  # refuses unknown columns before a model is loaded
    checked = check_files(version.root, version.config, samples)
    if not checked.readable:
        raise InputError(
            f"None of the {len(samples)} files of the split {question.split!r} can be read.",
            checked.damaged[0].reason,
            "Restore the files, or choose another split with --split.",
        )
    training = [s for s in rows if s.split == "train"]
    return EvalData(version, list(checked.readable), training, attributes, len(checked.damaged))


def evaluate(
    models: Sequence[LoadedModel], data: EvalData, question: MeasureOptions, minimum: int
) -> tuple[Reading, Setting]:
    """Run a model (several: an ensemble) on the samples, and return its reading and the setting."""
    from expunge.tasks.predictions import class_probabilities, detections

    version, samples = data.version, data.samples
    place = (models, version.root, version.config, samples, question.device)
    if models[0].task == "classify":
        if question.by == "object":
            raise InputError("A classifier detects no objects.", "", "Leave out --by object.")
        groups = group_samples(samples, data.attributes, question.columns)
        reading: Reading = Classified.of(*class_probabilities(*place))
        units: Sequence[Sample] = samples
    else:
        pictures = detections(*place)
        matches = matched(pictures)
        confidence = working_point(matches) if question.confidence is None else question.confidence
        reading = Detected(matches, len(samples), question.by == "object", confidence)
        if question.by == "object":
            counts = [len(p.boxes) for p in pictures]
            groups = group_boxes(samples, counts, data.attributes, question.columns)
            units = [samples[i] for i in matches.object_picture.tolist()]
            if not units:
                raise InputError(f"The split {question.split!r} has no objects.", "", "Choose with --split.")
        else:
            groups, units = group_samples(samples, data.attributes, question.columns), samples
    return reading, Setting(samples, units, groups, minimum, question.draws, question.seed)


def _open(workspace: Workspace, ref: str, data: EvalData) -> tuple[ModelVersion, list[LoadedModel]]:
    """Return a published model, and the loaded models of its files."""
    from expunge.tasks.class_map import check_fits
    from expunge.tasks.yolo import open_model

    with workspace.session() as session:
        published = model_store.find_model(session, ref)
    path = workspace.root / published.weights
    files = sorted(path.glob("*.pt")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(
            f"The weights of {published.label} are gone.",
            "A purge may have deleted them.",
            "Measure another version.",
        )
    opened = [open_model(file) for file in files]
    check_fits(opened[0], data.version.config, data.samples)
    return published, opened


def _header(question: MeasureOptions, data: EvalData, opened: Sequence[LoadedModel]) -> dict[str, Any]:
    """Return the fields of a report that describe data and groups."""
    return {
        "data": data.version.label,
        "split": question.split,
        "task": opened[0].task,
        "by": question.by,
        "group": list(question.columns),
        "samples": len(data.samples),
        "subjects": len({who for s in data.samples for who in s.subjects}),
        "classes": list(opened[0].names),
    }


def _confidence(reading: Reading) -> dict[str, Any]:
    """Return the confidence threshold of a detector; nothing for a classifier."""
    return {"confidence": round(reading.confidence, 5)} if isinstance(reading, Detected) else {}


def _training_only(data: EvalData, question: MeasureOptions, setting: Setting) -> list[str]:
    """Return the groups of the training split that have no measured sample."""
    if question.by == "object" or not data.training:
        return []
    trained = group_samples(data.training, data.attributes, question.columns)
    return [
        name
        for i, name in enumerate(trained.names)
        if i not in trained.apart and name not in setting.groups.names
    ]


def _warnings(
    workspace: Workspace, data: EvalData, question: MeasureOptions, found: dict[str, Any]
) -> list[str]:
    warnings = []
    if data.left_out:
        warnings.append(
            f"{data.left_out} files of the split {question.split!r} cannot be read and were left out."
        )
    if question.split in searched_splits(workspace, data.version.name):
        warnings.append(
            f"The search for harmful data used the split {question.split!r}: it does not judge the result. "
            "Measure on another split."
        )
    if question.split == "train":
        warnings.append("The model was trained on these samples: the figures do not hold for new ones.")
    if found["worst"] is None:
        warnings.append("Fewer than two groups are large enough: there is no worst group and no gap.")
    if found["intervals"]["unit"] == "subjects":
        people = {who for s in data.samples for who in s.subjects}
        alone = int(np.sum([not s.subjects for s in data.samples]))
        if alone and people:
            warnings.append(f"{alone} samples name no subject: each counts as one of its own.")
    return warnings
