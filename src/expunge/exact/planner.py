# SPDX-License-Identifier: Apache-2.0
"""From what the user said to a plan: defaults, settings by name, and how subjects are spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from expunge.data.label_counts import refuse_channels
from expunge.data.types import Sample, Version
from expunge.errors import InputError
from expunge.exact import placement
from expunge.exact.hashing import tensor_digest
from expunge.exact.plan import Epochs, Initial, Placement, Plan, Recipe
from expunge.exact.schedule import stage_epochs

RISK_EDGES = (0.5,)
SHARD_RATE = 0.5  # of lr0, where shards start from something trained (benchmarks/README.md)
PUBLIC_TIMES = 4  # public epochs over those of the shards, from scratch; longer did better (ibid.)
# Ultralytics' own augmentation settings by task; mosaic is off unless asked for (see docs/exact.md).
AUGMENT: dict[str, dict[str, float | str | None]] = {
    "detect": {
        "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "degrees": 0.0, "translate": 0.1, "scale": 0.2,
        "shear": 0.0, "perspective": 0.0, "flipud": 0.0, "fliplr": 0.5, "bgr": 0.0,
        "mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0,
    },
    "classify": {
        "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "scale": 0.5, "fliplr": 0.5, "flipud": 0.0,
        "erasing": 0.4, "auto_augment": "randaugment",
    },
}  # fmt: skip
GAINS = {"detect": {"box": 7.5, "cls": 0.5, "dfl": 1.5}, "classify": {"dropout": 0.0}}
RECIPE_KEYS = (
    "optimizer", "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs", "anneal", "close_mosaic",
)  # fmt: skip
PLAN_KEYS = ("freeze", "replay_public", "shard_lr", "polish_lr", "aggregate", "interim", "isa")
EPOCH_KEYS = ("public_epochs", "polish_epochs")


@dataclass(frozen=True)
class Options:
    """What the user said about a training.

    Attributes:
        weights: A ``.pt`` or ``.yaml``.
        shards: Number of shards.
        slices: Number of slices of a shard.
        epochs: Passes over a shard's private data.
        settings: ``--set KEY=VALUE`` pairs, unparsed.
    """

    weights: str
    shards: int = 4
    slices: int = 2
    epochs: int = 100
    imgsz: int | None = None
    batch: int = 16
    seed: int = 0
    threads: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)


def make_plan(
    options: Options, version: Version, samples: Iterable[Sample], risks: Mapping[str, float]
) -> tuple[Plan, dict[str, Any]]:
    """Return the plan and the initial weights (tensors by name).

    Raises:
        InputError: If an option does not fit.
    """
    from expunge.tasks.base import get_task
    from expunge.tasks.weights import open_source

    source = open_source(options.weights)
    kind = "folders" if source.task == "classify" else "yolo"
    if source.task not in AUGMENT:
        get_task(source.task or "unknown")
    if version.config.kind != kind:
        raise InputError(
            f"{options.weights} is a model for '{source.task}', which {version.label} is not made for.",
            "Detection needs a data.yaml with boxes, classification a folder per class.",
            "Choose other weights or another dataset.",
        )
    refuse_channels(version.config, version.label)
    values = _settings(options.settings, source.task)
    rows = [s for s in samples if s.split == "train"]
    has_public = any(s.public for s in rows)
    try:
        recipe = make_recipe(source.task, len(version.config.names), options.imgsz, options.batch, values)
        times = 1 if source.module is not None else PUBLIC_TIMES
        public_epochs = values.pop("public_epochs", times * options.epochs if has_public else 0)
        if (has_public and public_epochs) or source.module is not None:
            values.setdefault("shard_lr", round(recipe.lr0 * SHARD_RATE, 9))
        plan = Plan(
            task=source.task,
            names=version.config.names,
            architecture={**source.architecture, "nc": len(version.config.names)},
            initial=Initial(source=options.weights.rpartition("/")[2], tensors=""),
            seed=options.seed,
            shards=options.shards,
            slices=options.slices,
            epochs=Epochs(
                public=public_epochs,
                stages=stage_epochs(options.epochs, options.slices),
                polish=values.pop("polish_epochs", 0),
            ),
            recipe=recipe,
            placement=_placement(options, rows, risks),
            threads=options.threads,
            **values,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"The setting {where or 'plan'} does not fit.", first["msg"], "Correct it."
        ) from error
    initial = initial_weights(plan, source)
    plan = plan.model_copy(
        update={
            "initial": Initial(source=plan.initial.source, tensors=tensor_digest(initial)),
            "notes": tuple(_notes(plan, source.module is not None, has_public)),
        }
    )
    return plan, initial


def initial_weights(plan: Plan, source: Any) -> dict[str, Any]:
    """Return the seeded random weights, overlaid with those of a checkpoint if the source was one."""
    from expunge.exact.trainer import isolated_rng, seed_everything
    from expunge.tasks.base import get_task
    from expunge.tasks.weights import transfer

    task = get_task(plan.task)
    initial = task.initial(plan)
    if source.module is None:
        return initial
    module = task.build(plan)
    module.load_state_dict(initial)
    with isolated_rng():
        seed_everything(plan.seed)
        transfer(module, source, plan.names)
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def make_recipe(task: str, classes: int, imgsz: int | None, batch: int, values: dict[str, Any]) -> Recipe:
    """Return the recipe with defaults for what ``values`` does not say; what it says is taken out of it.

    Raises:
        InputError: If the image size does not fit.
    """
    augment = {k: values.pop(k, v) for k, v in AUGMENT[task].items()}
    gains = {k: values.pop(k, v) for k, v in GAINS[task].items()}
    chosen: dict[str, Any] = {
        "optimizer": "AdamW",
        "lr0": round(0.002 * 5 / (4 + classes), 6),  # Ultralytics' rule for short trainings
        "lrf": 0.02,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "warmup_epochs": 1.0,
    }
    chosen |= {k: values.pop(k) for k in RECIPE_KEYS if k in values}
    imgsz = imgsz or (640 if task == "detect" else 224)
    if imgsz % 32:
        raise InputError(f"--imgsz {imgsz} does not fit.", "It must be a multiple of 32.", "Round it.")
    return Recipe(imgsz=imgsz, batch=batch, augment=augment, gains=gains, **chosen)


def _placement(options: Options, rows: list[Sample], risks: Mapping[str, float]) -> Placement:
    if not risks or not any(r >= RISK_EDGES[0] for r in risks.values()):
        return placement.uniform(options.shards, options.slices)
    high = sum(
        1
        for s in rows
        if not s.public and max((risks.get(p, 0) for p in s.subjects), default=0) >= RISK_EDGES[0]
    )
    private = max(sum(1 for s in rows if not s.public), 1)
    share = min(-(-high * 20 // private) / 20, 0.95)  # rounded up to twentieths: a declared capacity
    return placement.by_risk(options.shards, options.slices, RISK_EDGES, (1 - share, share))


def _settings(settings: Mapping[str, str], task: str) -> dict[str, Any]:
    known = [*AUGMENT[task], *GAINS[task], *RECIPE_KEYS, *PLAN_KEYS, *EPOCH_KEYS]
    values: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in known:
            raise InputError(
                f"There is no setting '{key}' for {task}.",
                "What depends on the data set's size, or mixes samples out of sight, is not offered.",
                f"Known settings: {', '.join(sorted(known))}.",
            )
        values[key] = parse_value(text)
    return values


def parse_value(text: str) -> Any:
    """Return what a setting's text means: a truth value, nothing, a number, or the text itself."""
    low = text.strip().lower()
    if low in ("true", "false"):
        return low == "true"
    if low in ("none", ""):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _notes(plan: Plan, pretrained: bool, has_public: bool) -> list[str]:
    notes = ["Exact means: equal, byte for byte, to this plan run where the forgotten never existed."]
    if has_public:
        notes.append("Forgetting public data is allowed and costs a full retrain.")
    if pretrained:
        notes.append("What the downloaded checkpoint had seen before is not covered.")
    if plan.shards > 1 and plan.aggregate == "average" and not pretrained and not has_public:
        notes.append(
            "The shards start from random weights: their average is unlikely to be a good model. "
            "Mark public data, start from a checkpoint, set polish_epochs, or set aggregate=ensemble."
        )
    return notes
