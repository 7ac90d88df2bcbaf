# SPDX-License-Identifier: Apache-2.0
"""Train reference models: retrains without the forget set, each with its own seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import torch
from torch import nn

from expunge.errors import InputError
from expunge.storage.hashing import keyed_hash
from expunge.tasks.module import ModuleTask
from expunge.tasks.protocol import Samples, Task
from expunge.tasks.vectorised import retrain_many, vectorisable

VMAP_ERRORS = (InputError, RuntimeError, ValueError, TypeError)
TOGETHER = 64  # models trained together: more need more memory and are hardly faster


def retrains(
    task: Task,
    model: nn.Module,
    retain: Samples,
    *,
    count: int,
    epochs: int,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    images: Callable[[int], None] = lambda count: None,
) -> list[nn.Module]:
    """Return ``count`` models trained on ``retain``; reference i depends on (seed, i) alone.

    Small models are trained together (:mod:`expunge.tasks.vectorised`), others one after the other.

    Raises:
        InputError: If there is nothing to train, or a setting is unknown.
    """
    if count < 1 or epochs < 1:
        raise InputError(
            "No reference would be trained.", f"count={count}, epochs={epochs}.", "Give at least 1 of each."
        )
    given = dict(settings or {})
    if vectorisable(task, model) and count > 1:
        generators, models = _generators(seed, count), list[nn.Module]()
        with suppress(*VMAP_ERRORS):  # vmap does not support all models, and fails only when it runs
            for start in range(0, count, TOGETHER):
                models += retrain_many(
                    cast(ModuleTask, task),
                    model,
                    retain,
                    epochs=epochs,
                    generators=generators[start : start + TOGETHER],
                    images=images,
                    **given,
                )
            return models
    return [
        task.retrain(model, retain, epochs=epochs, generator=g, images=images, **given)
        for g in _generators(seed, count)
    ]


def _generators(seed: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(keyed_hash(seed, "reference", i) >> 1) for i in range(count)]
