# SPDX-License-Identifier: Apache-2.0
"""The registry of tasks that can be trained exactly."""

from __future__ import annotations

from importlib import import_module

from expunge.errors import InputError
from expunge.training.task import TrainingTask

_TASKS = {
    "detect": "expunge.tasks.detect:DetectTask",
    "classify": "expunge.tasks.classify:ClassifyTask",
}


def get_task(name: str) -> TrainingTask:
    """Return the task of a name.

    Raises:
        InputError: If there is no such task.
    """
    if name not in _TASKS:
        raise InputError(
            f"Erasable training does not know the task '{name}'.",
            f"Known: {', '.join(sorted(_TASKS))}.",
            "Choose weights of one of these tasks.",
        )
    module, _, attribute = _TASKS[name].partition(":")
    task: TrainingTask = getattr(import_module(module), attribute)()
    return task
