# SPDX-License-Identifier: Apache-2.0
"""How well published models serve each group of a dataset: measured, and compared before and after.

What found samples never judges: a split on which ``expunge bias find`` looked is told apart, with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.bias.boxes import matched, working_point
from expunge.bias.comparison import changes
from expunge.bias.groups import Attributes, group_boxes, group_samples
from expunge.bias.readings import Classified, Detected, Reading
from expunge.bias.removal import ADVICE, removal
from expunge.bias.resampling import DRAWS
from expunge.bias.summary import Setting, summary
from expunge.catalog import models as catalog
from expunge.catalog.datasets import get_version, load_samples, parse_ref
from expunge.catalog.models import Published
from expunge.data.types import Sample, Version
from expunge.errors import InputError
from expunge.harm.grouping import attributes_of, looked_at

if TYPE_CHECKING:
    from expunge.steps.scoping import Ask
    from expunge.tasks.yolo import Opened
    from expunge.workspace import Workspace

BY = ("image", "object")


@dataclass(frozen=True)
class Question:
    """What is asked (the arguments of ``expunge bias measure``).

    Attributes:
        data: ``NAME`` or ``NAME@V`` of the dataset that is measured on.
        columns: What samples are grouped by; of several, by their combinations.
        file: A table of groups of its own.
        split: Which samples.
        by: ``image`` or ``object``: what of a detector's is in a group.
        confidence: From which a detector's boxes count; None: where F1 over all groups is highest.
        draws: Bootstrap samples and shuffles.
        seed: Of both.
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
class Ground:
    """What models are measured on: the rows of a split, and what is known of them."""

    version: Version
    samples: list[Sample]
    training: list[Sample]
    attributes: Attributes


def measure(workspace: Workspace, model: str, question: Question) -> dict[str, Any]:
    """Measure a model by group.

    Args:
        workspace: Where model and dataset are.
        model: ``NAME`` or ``NAME@V``.
        question: On what, and by which groups.

    Returns:
        What ``expunge bias measure --json`` prints; see :func:`expunge.bias.summary.summary`.

    Raises:
        InputError: If the model, the data, the split or a column is unknown, or they do not fit together.
    """
    ground = ground_of(workspace, question)
    published, opened = _open(workspace, model, ground)
    reading, setting = read(opened, ground, question, workspace.settings.bias.minimum)
    found = summary(reading, setting)
    return {
        "model": published.label,
        **_what(question, ground, opened),
        **_how(reading),
        **found,
        "training_only": _training_only(ground, question, setting),
        "warnings": _warnings(workspace, ground, question, found),
    }


def compare(workspace: Workspace, models: Sequence[str], question: Question) -> dict[str, Any]:
    """Measure several models on the same samples: before, after and, say, a reference.

    Returns:
        ``models``: for each what ``measure`` finds; ``changes`` from the first to each other one, see
        :func:`expunge.bias.comparison.changes`.

    Raises:
        InputError: See :func:`measure`; if there are fewer than two models, or of different tasks.
    """
    if len(models) < 2:
        raise InputError("One model is no comparison.", "", "Name the one before, and the one after.")
    ground = ground_of(workspace, question)
    readings: list[Reading] = []
    measured: list[dict[str, Any]] = []
    opened: list[Opened] | None = None
    setting: Setting | None = None
    for ref in models:
        published, opened = _open(workspace, ref, ground)
        reading, setting = read(opened, ground, question, workspace.settings.bias.minimum)
        if readings and reading.main != readings[0].main:
            raise InputError(
                f"{published.label} is for another task than {measured[0]['model']}.",
                "Their figures are not of one kind.",
                "Compare versions of one model.",
            )
        readings.append(reading)
        measured.append({"model": published.label, **_how(reading), **summary(reading, setting)})
    assert setting is not None
    assert opened is not None
    found = changes(readings, setting)
    warnings = _warnings(workspace, ground, question, measured[0])
    if any(found["harmed"]):
        count = len({name for names in found["harmed"] for name in names})
        warnings.append(f"{count} of the groups are served worse than before. {ADVICE}")
    return {
        **_what(question, ground, opened),
        "metric": readings[0].main,
        "models": measured,
        "changes": found,
        "training_only": _training_only(ground, question, setting),
        "warnings": warnings,
    }


def removal_of(
    workspace: Workspace, ask: Ask, columns: Sequence[str], file: Path | None = None
) -> dict[str, Any]:
    """Say what forgetting would leave of each group in the training split; nothing is changed.

    Returns:
        See :func:`expunge.bias.removal.removal`.

    Raises:
        InputError: If the request selects something unknown, or a column is unknown.
    """
    from expunge.steps.scoping import scope_of

    scope = scope_of(workspace, ask)
    version = scope.selection.version
    with workspace.session() as session:
        rows = load_samples(session, version, "train", without_erased=True)
    groups = group_samples(rows, attributes_of(workspace, version, file), columns)
    gone = np.array([(s.path, s.arrived) in scope.taken for s in rows], dtype=bool)
    return removal(rows, groups, gone, workspace.settings.bias.minimum)


def ground_of(workspace: Workspace, question: Question) -> Ground:
    """Return what is measured on.

    Raises:
        InputError: If the dataset, the split or a column is unknown.
    """
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
    group_samples(samples[:1], attributes, question.columns)  # unknown columns, before any model is opened
    return Ground(version, samples, [s for s in rows if s.split == "train"], attributes)


def read(
    models: Sequence[Opened], ground: Ground, question: Question, minimum: int
) -> tuple[Reading, Setting]:
    """Let a model (several: an ensemble) look at the samples."""
    from expunge.tasks.predictions import class_probabilities, detections

    version, samples = ground.version, ground.samples
    place = (models, version.root, version.config, samples, question.device)
    if models[0].task == "classify":
        if question.by == "object":
            raise InputError("A classifier finds no objects.", "", "Leave out --by object.")
        groups = group_samples(samples, ground.attributes, question.columns)
        reading: Reading = Classified.of(*class_probabilities(*place))
        things: Sequence[Sample] = samples
    else:
        pictures = detections(*place)
        matches = matched(pictures)
        sure = working_point(matches) if question.confidence is None else question.confidence
        reading = Detected(matches, len(samples), question.by == "object", sure)
        if question.by == "object":
            counts = [len(p.boxes) for p in pictures]
            groups = group_boxes(samples, counts, ground.attributes, question.columns)
            things = [samples[i] for i in matches.object_picture.tolist()]
            if not things:
                raise InputError(f"The split {question.split!r} has no objects.", "", "Choose with --split.")
        else:
            groups, things = group_samples(samples, ground.attributes, question.columns), samples
    return reading, Setting(samples, things, groups, minimum, question.draws, question.seed)


def _open(workspace: Workspace, ref: str, ground: Ground) -> tuple[Published, list[Opened]]:
    from expunge.tasks.class_map import check_fits
    from expunge.tasks.yolo import open_model

    with workspace.session() as session:
        published = catalog.find_model(session, ref)
    path = workspace.root / published.weights
    files = sorted(path.glob("*.pt")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(
            f"The weights of {published.label} are gone.",
            "A purge may have deleted them.",
            "Measure another version.",
        )
    opened = [open_model(file) for file in files]
    check_fits(opened[0], ground.version.config, ground.samples)
    return published, opened


def _what(question: Question, ground: Ground, opened: Sequence[Opened]) -> dict[str, Any]:
    return {
        "data": ground.version.label,
        "split": question.split,
        "task": opened[0].task,
        "by": question.by,
        "group": list(question.columns),
        "samples": len(ground.samples),
        "subjects": len({who for s in ground.samples for who in s.subjects}),
        "classes": list(opened[0].names),
    }


def _how(reading: Reading) -> dict[str, Any]:
    return {"confidence": round(reading.confidence, 5)} if isinstance(reading, Detected) else {}


def _training_only(ground: Ground, question: Question, setting: Setting) -> list[str]:
    """The groups that were trained on and of which nothing is measured."""
    if question.by == "object" or not ground.training:
        return []
    trained = group_samples(ground.training, ground.attributes, question.columns)
    return [
        name
        for i, name in enumerate(trained.names)
        if i not in trained.apart and name not in setting.groups.names
    ]


def _warnings(workspace: Workspace, ground: Ground, question: Question, found: dict[str, Any]) -> list[str]:
    said = []
    if question.split in looked_at(workspace, ground.version.name):
        said.append(
            f"Samples were found on the split {question.split!r}: what found them does not judge the result. "
            "Measure on another split."
        )
    if question.split == "train":
        said.append("The model was trained on these samples: the figures say nothing about new ones.")
    if found["worst"] is None:
        said.append("Fewer than two groups are large enough: there is no worst group and no gap.")
    if found["intervals"]["unit"] == "subjects":
        people = {who for s in ground.samples for who in s.subjects}
        alone = int(np.sum([not s.subjects for s in ground.samples]))
        if alone and people:
            said.append(f"{alone} samples name no subject: each counts as one of its own.")
    return said
