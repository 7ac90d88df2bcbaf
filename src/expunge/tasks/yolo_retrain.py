# SPDX-License-Identifier: AGPL-3.0-or-later
"""An ordinary training of an Ultralytics model on other samples, by the project's own trainer.

One shard, one slice: optimizer, learning rate, batch, image size, loss gains and augmentation are those of
the training record in the model's file; what it does not say, or leaves to ``auto``, is as in the planner.

Differences from Ultralytics' trainer: a step for every batch (no accumulation to a nominal batch of 64), no
``multi_scale``, and the last EMA is the model (no best epoch, no early stop). On the CPU a training repeats
to the byte for the same seed and number of threads; elsewhere torch warns of operations that may not repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args

import torch
from pydantic import ValidationError
from torch import nn

from expunge.errors import InputError
from expunge.exact import placement
from expunge.exact.checkpoint import State
from expunge.exact.plan import Epochs, Initial, Plan, Recipe
from expunge.exact.planner import AUGMENT, GAINS, RECIPE_KEYS, make_recipe
from expunge.exact.schedule import Stage
from expunge.exact.trainer import Hooks, run_stage
from expunge.tasks.classify import ClassifyTask
from expunge.tasks.detect import DetectTask
from expunge.tasks.weights import describe
from expunge.tasks.yolo_samples import rows_of

if TYPE_CHECKING:
    from expunge.tasks.protocol import Samples
    from expunge.tasks.yolo import Opened
    from expunge.tasks.yolo_base import YoloTask

OPTIMIZERS = get_args(Recipe.model_fields["optimizer"].annotation)
OF_THE_OPTIMIZER = ("optimizer", "lr0", "momentum")  # "auto" chooses all three
DEFAULT_BATCH = 16


def train(
    task: YoloTask,
    model: nn.Module,
    start: Mapping[str, torch.Tensor],
    retain: Samples,
    epochs: int,
    generator: torch.Generator,
    images: Callable[[int], None],
    settings: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """Return the averaged weights (EMA) at the end of the training.

    Args:
        task: Says the device and the record.
        model: Says the architecture.
        start: Weights to start from.
        retain: A :class:`YoloSamples`, or parts of it.
        epochs: Passes over ``retain``.
        generator: Draws the seed.
        images: Is told of the images done.
        settings: What comes before the record.

    Raises:
        InputError: If a setting is unknown or does not fit.
        TrainingDiverged: If the loss is not finite.
    """
    source, rows = rows_of(retain)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    plan = recorded_plan(task.opened, model, epochs, seed, settings)
    kinds: dict[str, type[_Detect | _Classify]] = {"detect": _Detect, "classify": _Classify}
    trainer = kinds[plan.task](task.device)
    tensors = {name: value.detach().to(task.device).clone() for name, value in start.items()}
    stage = Stage("shard", 0, epochs, epochs, plan.recipe.lr0, fresh=True)
    data = trainer.data(plan, source.config, source.root, rows)
    state = State(model=tensors, ema=tensors)
    paths = [sample.path for sample in rows]
    with task.seeded(generator):  # for what draws on the device; the trainer seeds the rest
        return run_stage(trainer, plan, state, stage, data, paths, Hooks(images=images)).ema


def recorded_plan(
    opened: Opened, model: nn.Module, epochs: int, seed: int, settings: Mapping[str, Any]
) -> Plan:
    """Return the plan of a training like the recorded one.

    Raises:
        InputError: See :func:`train`.
    """
    source, record = describe(model), opened.train_args
    values = {**_recorded(opened.task, record), **settings}
    batch = values.pop("batch", record.get("batch"))
    imgsz, freeze = values.pop("imgsz", opened.imgsz), _freeze(values.pop("freeze", record.get("freeze")))
    try:
        recipe = make_recipe(
            opened.task,
            len(source.names),
            imgsz,
            batch if isinstance(batch, int) and batch > 0 else DEFAULT_BATCH,
            values,
        )
        if values:
            known = [*AUGMENT[opened.task], *GAINS[opened.task], *RECIPE_KEYS, "batch", "imgsz", "freeze"]
            raise InputError(
                f"There is no setting '{next(iter(values))}' of a training for {opened.task}.",
                f"Known: {', '.join(sorted([*known, 'initial']))}.",
                "Correct the name.",
            )
        return Plan(
            task=opened.task,
            names=source.names,
            architecture=source.architecture,
            initial=Initial(source="", tensors=""),
            seed=seed,
            shards=1,
            slices=1,
            epochs=Epochs(public=0, stages=(epochs,), polish=0),
            recipe=recipe,
            freeze=freeze,
            placement=placement.uniform(1, 1),
            threads=torch.get_num_threads(),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"The setting {where} does not fit.", first["msg"], "Correct it.") from error


def _recorded(task: str, record: Mapping[str, Any]) -> dict[str, Any]:
    keys = [*AUGMENT[task], *GAINS[task], *RECIPE_KEYS]
    off = {k: None for k in ("auto_augment",) if k in record and k in keys}  # null on record: none was used
    values = off | {k: record[k] for k in keys if record.get(k) is not None}
    if values.get("optimizer") not in OPTIMIZERS:
        values = {k: v for k, v in values.items() if k not in OF_THE_OPTIMIZER}
    return values


def _freeze(frozen: Any) -> int:
    if frozen is None or isinstance(frozen, int):
        return int(frozen or 0)
    if sorted(frozen) == list(range(len(frozen))):
        return len(frozen)
    raise InputError(
        "The training on record froze layers that are not the first ones.",
        f"They are {sorted(frozen)}.",
        "Give freeze=N to train anew with the first N layers frozen.",
    )


class _OnDevice:
    """Puts model and batches where the task works."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def build(self, plan: Plan) -> Any:
        """Return the plan's architecture on the device."""
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
