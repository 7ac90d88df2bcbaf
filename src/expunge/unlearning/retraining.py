# SPDX-License-Identifier: Apache-2.0
"""Retrain a model whose forget set cannot be read; its guarantee is by construction, without an audit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Subset

from expunge.audits.unlearning_data import with_own_guard
from expunge.audits.verdict import Utility, Verdict, least_utility, utility_json
from expunge.data.types import DatasetConfig, Sample
from expunge.errors import InputError
from expunge.methods.base import Budget, get_method
from expunge.progress import Progress
from expunge.tasks.class_map import check_fits, known_samples
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.yolo import samples_of, write_model, yolo_task
from expunge.unlearning.guard import Guard
from expunge.unlearning.result import RETRAIN, Result
from expunge.unlearning.run import ALLOWED_DROP
from expunge.unlearning.yolo import Measure, measure

if TYPE_CHECKING:
    from expunge.unlearning.yolo import MethodOptions

REASON = (
    "It was trained without the forget set, of which no file was opened. Files of the forget set are missing"
    " or changed, so no comparison was made."
)


def retrain_rows(
    opened: LoadedModel,
    samples: Sequence[Sample],
    config: DatasetConfig,
    root: Path,
    *,
    settings: MethodOptions,
    progress: Progress,
    epochs: int | None,
) -> tuple[Result, Measure]:
    """Retrain a model on retained rows; the rows of val and test guard its utility.

    Args:
        opened: The loaded model; its file records how it was trained.
        samples: The retained rows of its dataset.
        config, root: Configuration and root folder of the dataset.
        settings: Seed, device, hyper-parameters.
        progress: Receives progress reports.
        epochs: Epochs of a full training; None: as recorded in the model's file.

    Returns:
        The result, with the verdict ``no-power``, and a function that evaluates a model on the held-out rows.

    Raises:
        InputError: If the number of epochs is unknown, or model and data do not fit together.
    """
    train = [s for s in samples if s.split == "train"]
    check_fits(opened, config, train)
    method, task = get_method(RETRAIN), yolo_task(opened, settings.device)
    values = dict(settings.hyperparameters)
    values.setdefault("epochs", epochs or opened.train_args.get("epochs"))
    if values["epochs"] is None:
        raise InputError(
            "The number of training epochs is unknown.",
            "The model's file does not record it.",
            "Give it with --method retrain --set epochs=N.",
        )
    method.check(values)
    retain = samples_of(opened, root, config, train)
    known = known_samples(opened, config, samples)
    held = samples_of(opened, root, config, [s for s in known if s.split != "train"])
    guard_data = held if len(held) else with_own_guard(retain, settings.seed)[1]
    before = task.evaluate(task.clone(opened.module), guard_data)[task.metric]
    guard = Guard(task, guard_data, least_utility(before, ALLOWED_DROP, len(guard_data)), progress.add)
    budget, began = Budget(float(values["epochs"]) * len(retain)), time.monotonic()
    progress.begin(RETRAIN, int(budget.limit))
    try:
        model = method.function(
            opened.module,
            Subset(retain, []),  # type: ignore[arg-type]
            retain,
            task,
            generator=torch.Generator().manual_seed(settings.seed),
            budget=budget,
            progress=guard,
            **values,
        )
    finally:
        progress.end()
    after = task.evaluate(model, guard_data)[task.metric]
    utility = Utility(before, after, ALLOWED_DROP, task.metric, len(guard_data))
    verdict = Verdict("no-power" if utility.holds else "fail", (REASON,), utility=utility_json(utility))
    result = Result(
        model=model,
        method=RETRAIN,
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        warnings=() if len(held) else ("No validation data: the utility was measured on retained samples.",),
        metrics={"before": {}, "after": {}},
        audit=verdict,
        seconds=round(time.monotonic() - began, 3),
        steps=budget.steps,
        passes=round(budget.spent, 1),
        cost=1.0,
        hyperparameters={**method.hyperparameters, **values},
        seed=settings.seed,
        rounds=tuple(guard.trail),
        recommendation="" if utility.holds else "Train it longer: --method retrain --set epochs=N.",
        writer=lambda module: write_model(module, opened),
    )
    return result, lambda module: measure(task, module, held, config)
