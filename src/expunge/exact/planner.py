# SPDX-License-Identifier: Apache-2.0
"""Creation of plans from the user's options: defaults, named settings, and the placement of subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from expunge.data.label_counts import refuse_channels
from expunge.data.types import Sample, Version
from expunge.errors import InputError
from expunge.exact import placement
from expunge.storage.hashing import tensor_digest
from expunge.training.plan import Epochs, Initial, Placement, Plan
from expunge.training.recipe import AUGMENT, GAINS, RECIPE_KEYS, make_recipe
from expunge.training.schedule import stage_epochs

RISK_EDGES = (0.5,)
SHARD_RATE = 0.5  # factor of lr0 for shards with a trained start (see benchmarks/README.md)
PUBLIC_TIMES = 4  # factor of the public epochs without pretrained weights (see benchmarks/README.md)
PLAN_KEYS = ("freeze", "replay_public", "shard_lr", "polish_lr", "aggregate", "interim", "isa")
EPOCH_KEYS = ("public_epochs", "polish_epochs")


@dataclass(frozen=True)
class Options:
    """The user's options for a training.

    Attributes:
        weights: A ``.pt`` or ``.yaml`` file.
        shards: Number of shards.
        slices: Number of slices of a shard.
        epochs: Passes over a shard's private data.
        imgsz: Image size in pixels; None: the task's default.
        batch: Images per batch.
        seed: Seed of all randomness.
        threads: Threads of a training process.
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
    """Return a plan and its initial weights (tensors by name).

    Raises:
        InputError: If an option is invalid.
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
    """Return the seeded random weights, overwritten by a checkpoint's weights if the source is one."""
    from expunge.tasks.base import get_task
    from expunge.tasks.weights import transfer
    from expunge.training.random_state import isolated_rng, seed_everything

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


def _placement(options: Options, rows: list[Sample], risks: Mapping[str, float]) -> Placement:
    if not risks or not any(r >= RISK_EDGES[0] for r in risks.values()):
        return placement.uniform_placement(options.shards, options.slices)
    high = sum(
        1
        for s in rows
        if not s.public and max((risks.get(p, 0) for p in s.subjects), default=0) >= RISK_EDGES[0]
    )
    private = max(sum(1 for s in rows if not s.public), 1)
    share = min(-(-high * 20 // private) / 20, 0.95)  # the declared capacity, rounded up to twentieths
    return placement.risk_placement(options.shards, options.slices, RISK_EDGES, (1 - share, share))


def _settings(settings: Mapping[str, str], task: str) -> dict[str, Any]:
    known = [*AUGMENT[task], *GAINS[task], *RECIPE_KEYS, *PLAN_KEYS, *EPOCH_KEYS]
    values: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in known:
            raise InputError(
                f"There is no setting '{key}' for {task}.",
                "Settings that depend on the data set's size, or mix samples implicitly, are not supported.",
                f"Known settings: {', '.join(sorted(known))}.",
            )
        values[key] = parse_value(text)
    return values


def parse_value(text: str) -> Any:
    """Return the value of a setting's text: a bool, None, a number, or the text itself."""
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
    notes = ["Exact means: byte-identical to this plan, run on data without the forgotten samples."]
    if has_public:
        notes.append("Forgetting public data is allowed and costs a full retrain.")
    if pretrained:
        notes.append("The training data of the downloaded checkpoint is not covered.")
    if plan.shards > 1 and plan.aggregate == "average" and not pretrained and not has_public:
        notes.append(
            "The shards start from random weights: their average is unlikely to be a good model. "
            "Mark public data, start from a checkpoint, set polish_epochs, or set aggregate=ensemble."
        )
    return notes
