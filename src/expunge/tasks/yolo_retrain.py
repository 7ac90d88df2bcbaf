# SPDX-License-Identifier: AGPL-3.0-or-later
"""Training of an Ultralytics model on other samples, with the project's own trainer.

The training has one shard and one slice. Optimizer, learning rate, batch size, image size, loss gains and
augmentation are those of the training record in the model's file. Missing and ``auto`` settings have the
planner's defaults.

Differences from Ultralytics' trainer: one optimizer step per batch (no accumulation to a nominal batch of
64), no ``multi_scale``, and the result is the last EMA (no best epoch, no early stop). On the CPU a training
is byte-identical for the same seed and number of threads; elsewhere torch warns about operations that are not
deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, get_args

import torch
from pydantic import ValidationError
from torch import nn

from expunge.errors import InputError
from expunge.tasks.classify import ClassifyTask
from expunge.tasks.detect import DetectTask
from expunge.tasks.weights import describe
from expunge.tasks.yolo_samples import rows_of
from expunge.training.checkpoint import State
from expunge.training.plan import Cell, Epochs, Initial, Placement, Plan, Recipe
from expunge.training.recipe import AUGMENT, GAINS, RECIPE_KEYS, make_recipe
from expunge.training.schedule import Stage
from expunge.training.trainer import Hooks, run_stage

if TYPE_CHECKING:
    from expunge.tasks.loaded_model import LoadedModel
    from expunge.tasks.protocol import Samples

OPTIMIZERS = get_args(Recipe.model_fields["optimizer"].annotation)
OPTIMIZER_SETTINGS = ("optimizer", "lr0", "momentum")  # optimizer="auto" chooses all three
DEFAULT_BATCH = 16


def train(
    loaded: LoadedModel,
    device: torch.device,
    seeded: AbstractContextManager[None],
    model: nn.Module,
    start: Mapping[str, torch.Tensor],
    retain: Samples,
    epochs: int,
    generator: torch.Generator,
    images: Callable[[int], None],
    settings: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """Return the EMA weights at the end of a training.

    Args:
        loaded: The loaded model, with its training record.
        device: Device to train on.
        seeded: Context that seeds torch's generators on the device; the trainer seeds all others.
        model: Determines the architecture.
        start: Start weights.
        retain: A :class:`YoloSamples`, or subsets of it.
        epochs: Passes over ``retain``.
        generator: Draws the seed.
        images: Called with the number of images of every finished batch.
        settings: Settings that override the record.

    Raises:
        InputError: If a setting is unknown or invalid.
        TrainingDiverged: If the loss is not finite.
    """
    source, rows = rows_of(retain)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    plan = recorded_plan(loaded, model, epochs, seed, settings)
    kinds: dict[str, type[_Detect | _Classify]] = {"detect": _Detect, "classify": _Classify}
    trainer = kinds[plan.task](device)
    tensors = {name: value.detach().to(device).clone() for name, value in start.items()}
    stage = Stage("shard", 0, epochs, epochs, plan.recipe.lr0, fresh=True)
    data = trainer.data(plan, source.config, source.root, rows)
    state = State(model=tensors, ema=tensors)
    paths = [sample.path for sample in rows]
    with seeded:
        return run_stage(trainer, plan, state, stage, data, paths, Hooks(images=images)).ema


def recorded_plan(
    loaded: LoadedModel, model: nn.Module, epochs: int, seed: int, settings: Mapping[str, Any]
) -> Plan:
    """Return a plan with the settings of the recorded training.

    Raises:
        InputError: See :func:`train`.
    """
    source, record = describe(model), loaded.train_args
    values = {**_recorded_settings(loaded.task, record), **settings}
    batch = values.pop("batch", record.get("batch"))
    imgsz = values.pop("imgsz", loaded.imgsz)
    freeze = _frozen_count(values.pop("freeze", record.get("freeze")))
    try:
        recipe = make_recipe(
            loaded.task,
            len(source.names),
            imgsz,
            batch if isinstance(batch, int) and batch > 0 else DEFAULT_BATCH,
            values,
        )
        if values:
            known = [*AUGMENT[loaded.task], *GAINS[loaded.task], *RECIPE_KEYS, "batch", "imgsz", "freeze"]
            raise InputError(
                f"There is no setting '{next(iter(values))}' of a training for {loaded.task}.",
                f"Known: {', '.join(sorted([*known, 'initial']))}.",
                "Correct the name.",
            )
        return Plan(
            task=loaded.task,
            names=source.names,
            architecture=source.architecture,
            initial=Initial(source="", tensors=""),
            seed=seed,
            shards=1,
            slices=1,
            epochs=Epochs(public=0, stages=(epochs,), polish=0),
            recipe=recipe,
            freeze=freeze,
            placement=Placement(bins=((Cell(shard=0, slice=0, share=1.0),),)),
            threads=torch.get_num_threads(),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"The setting {where} does not fit.", first["msg"], "Correct it.") from error


def _recorded_settings(task: str, record: Mapping[str, Any]) -> dict[str, Any]:
    keys = [*AUGMENT[task], *GAINS[task], *RECIPE_KEYS]
    # a null in the record means that no policy was used
    disabled = {k: None for k in ("auto_augment",) if k in record and k in keys}
    values = disabled | {k: record[k] for k in keys if record.get(k) is not None}
    if values.get("optimizer") not in OPTIMIZERS:
        values = {k: v for k, v in values.items() if k not in OPTIMIZER_SETTINGS}
    return values


def _frozen_count(frozen: Any) -> int:
    if frozen is None or isinstance(frozen, int):
        return int(frozen or 0)
    if sorted(frozen) == list(range(len(frozen))):
        return len(frozen)
    raise InputError(
        "The training on record froze layers that are not the first ones.",
        f"They are {sorted(frozen)}.",
        "Give freeze=N to retrain with the first N layers frozen.",
    )


class _OnDevice:
    """Mix-in that moves model and batches to a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def build(self, plan: Plan) -> Any:
        """Return the plan's architecture, on the device."""
        return super().build(plan).to(self._device)  # type: ignore[misc]

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Return the batch's training loss."""
        moved = {k: v.to(self._device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        value: torch.Tensor = super().loss(model, moved)  # type: ignore[misc]
        return value


class _Detect(_OnDevice, DetectTask):
    pass


class _Classify(_OnDevice, ClassifyTask):
    pass
