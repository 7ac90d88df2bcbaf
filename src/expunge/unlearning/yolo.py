# SPDX-License-Identifier: Apache-2.0
"""Unlearn rows of a dataset in an Ultralytics model, for the command line and `YOLO.unlearn`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from expunge.audits.unlearning_data import UnlearningData, with_own_guard
from expunge.data.types import DatasetConfig, Sample
from expunge.progress import Progress
from expunge.tasks.class_map import check_fits, class_indices, known_samples
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.protocol import Samples, Task
from expunge.tasks.yolo import samples_of, write_model, yolo_task
from expunge.unlearning.auto import AUTO, TRIES, run, tests_of
from expunge.unlearning.partition import Partition, partition
from expunge.unlearning.result import Result
from expunge.unlearning.run import ALLOWED_DROP, BUDGET, Unlearning, UnlearningOptions, checked
from expunge.unlearning.selecting import Selected

Measure = Callable[[nn.Module], dict[str, Any]]


class MethodOptions(Protocol):
    """Options of a method; see :class:`expunge.erasure.method_settings.MethodSettings`."""

    @property
    def budget(self) -> float | None: ...
    @property
    def accept_no_power(self) -> bool: ...
    @property
    def hyperparameters(self) -> Mapping[str, Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


def unlearn_rows(
    opened: LoadedModel,
    samples: Sequence[Sample],
    config: DatasetConfig,
    root: Path,
    selected: Selected,
    *,
    method: str,
    settings: MethodOptions,
    progress: Progress,
    epochs: int | None,
    allowed_drop: float = ALLOWED_DROP,
    tune: int | None = None,
) -> tuple[Result, Measure]:
    """Make a model forget rows of its dataset.

    Args:
        opened: The loaded model.
        samples: All rows of its dataset, including those to forget.
        config, root: Configuration and root folder of the dataset.
        selected: The samples, people and classes to forget.
        method: A method's name, or ``auto``.
        settings: Budget, seed, device, hyper-parameters.
        progress: Receives progress reports.
        epochs: Epochs of a full training; None: as recorded in the model's file.
        allowed_drop: Maximum drop of the main metric on held-out data.
        tune: Maximum number of runs for tuning the strength; None: 4 for ``auto``, else 1.

    Returns:
        The result, and a function that evaluates a model on all held-out rows.

    Raises:
        InputError: If model, data, selection or method do not fit together.
    """
    material, parts = material_of(opened, samples, config, root, selected, settings.seed)
    task = yolo_task(opened, settings.device)
    options = UnlearningOptions(
        budget=BUDGET if settings.budget is None else settings.budget,
        retrain_epochs=opened.train_args.get("epochs") if epochs is None else epochs,
        allowed_drop=allowed_drop,
        seed=settings.seed,
        accept_no_power=settings.accept_no_power,
        tune=tune if tune is not None else TRIES if method == AUTO else 1,
        on_start=lambda name, passes: progress.begin(f"{name}", passes),
        on_images=progress.add,
    )
    if method != AUTO:
        checked(method, settings.hyperparameters, material, options)
    held = samples_of(opened, root, config, (*parts.guard, *parts.unseen))
    try:
        unlearning = Unlearning(
            opened.module,
            material,
            task,
            options,
            tests_of(method, parts.goal),
            lambda model: write_model(model, opened),
        )
        result = run(unlearning, method, settings.hyperparameters)
    finally:
        progress.end()
    return result, lambda model: measure(task, model, held, config)


def material_of(
    opened: LoadedModel,
    samples: Sequence[Sample],
    config: DatasetConfig,
    root: Path,
    selected: Selected,
    seed: int,
) -> tuple[UnlearningData, Partition]:
    """Return the data of an unlearning or an audit, and the rows it is made of.

    Args:
        opened, samples, config, root, selected: See :func:`unlearn_rows`.
        seed: Seed of the division between guard data and unseen data.

    Raises:
        InputError: If model, data and selection do not fit together.
    """
    check_fits(opened, config, [s for s in samples if s.split == "train"])
    classes = class_indices(opened, config, selected.classes)
    parts = partition(known_samples(opened, config, samples), config, root, selected, seed)

    def data(rows: Sequence[Sample]) -> Samples:
        return samples_of(opened, root, config, rows)

    retain = data(parts.retain)
    guard_seen = not parts.guard
    kept, guard = with_own_guard(retain, seed) if guard_seen else (retain, data(parts.guard))
    material = UnlearningData(
        data(parts.forget),
        kept,
        guard,
        data(parts.unseen),
        parts.goal,
        guard_seen,
        parts.forget_groups,
        parts.unseen_groups,
        classes,
    )
    return material, parts


def measure(task: Task, model: nn.Module, data: Samples, config: DatasetConfig) -> dict[str, Any]:
    """Return metrics on held-out rows and their number; no metrics if there are none."""
    if not len(data):
        return {"images": 0, **({"held_out": False} if config.val_in_train else {})}
    return {**task.evaluate(task.clone(model), data), "split": "held out", "images": len(data)}
