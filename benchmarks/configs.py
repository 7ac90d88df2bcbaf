# SPDX-License-Identifier: Apache-2.0
"""The configurations whose accuracy and price of forgetting are measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from expunge.exact import placement
from expunge.training.plan import Epochs, Initial, Plan, Recipe
from expunge.training.recipe import AUGMENT, GAINS


@dataclass(frozen=True)
class Config:
    """One way to organise the training.

    Attributes:
        name: Unique.
        public: Share of public data: ``few`` or ``middle``.
        shards: Number of shards.
        stages: Epochs of each stage, so also the number of slices.
        public_epochs: Epochs of the public phase.
        lr0: Learning rate of the public phase and the shards.
        shard_lr: Learning rate of the shards where it differs; None: ``lr0``.
        freeze: Layers frozen after the public phase.
        replay: Whether every shard also sees the public data.
        polish, polish_lr: Epochs and learning rate of the joint polish after the merge.
        anneal: ``stage`` or ``phase``.
        mosaic, scale: Augmentation (detection).
        risk: Share of people marked as likely to leave, placed in the last slices; 0: no risk column.
        aggregate: ``average`` or ``ensemble``.
    """

    name: str
    public: str = "few"
    shards: int = 4
    stages: tuple[int, ...] = (20,)
    public_epochs: int = 80
    lr0: float = 0.002
    shard_lr: float | None = None
    freeze: int = 0
    replay: bool = False
    polish: int = 0
    polish_lr: float = 3e-4
    anneal: str = "stage"
    mosaic: float = 0.0
    scale: float = 0.2
    risk: float = 0.0
    aggregate: Literal["average", "ensemble"] = "average"

    @property
    def slices(self) -> int:
        """Number of slices of a shard."""
        return len(self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return the configuration as it is written beside the results."""
        return {**asdict(self), "slices": self.slices}


@dataclass(frozen=True)
class Suite:
    """What is fixed for a task: model, image size, batch and the figure that counts."""

    task: str
    weights: str
    imgsz: int
    batch: int
    metric: str


SUITES = {
    "detect": Suite("detect", "yolo26n.yaml", 64, 16, "mAP50-95"),
    "classify": Suite("classify", "yolo26n-cls.yaml", 32, 16, "top1"),
}


# Stock classification augmentation flips, erases and crops digits beyond recognition.
LIGHT: dict[str, float | str | None] = {"scale": 0.2, "fliplr": 0.0, "erasing": 0.0, "auto_augment": None}


def make_plan(suite: Suite, config: Config, names: tuple[str, ...], seed: int) -> Plan:
    """Return the plan of a configuration (without the digest of its initial weights)."""
    from expunge.tasks.weights import open_source

    source = open_source(suite.weights)
    augment = dict(AUGMENT[suite.task])
    augment |= {"mosaic": config.mosaic, "scale": config.scale} if suite.task == "detect" else LIGHT
    slices = config.slices
    places = placement.uniform_placement(config.shards, slices)
    if config.risk:
        places = placement.risk_placement(config.shards, slices, (0.5,), (1 - config.risk, config.risk))
    return Plan(
        task=suite.task,
        names=names,
        architecture={**source.architecture, "nc": len(names)},
        initial=Initial(source=suite.weights, tensors=""),
        seed=seed,
        shards=config.shards,
        slices=slices,
        epochs=Epochs(public=config.public_epochs, stages=config.stages, polish=config.polish),
        recipe=Recipe(
            imgsz=suite.imgsz,
            batch=suite.batch,
            optimizer="AdamW",
            lr0=config.lr0,
            lrf=0.02,
            momentum=0.9,
            weight_decay=5e-4,
            warmup_epochs=1.0,
            anneal=config.anneal,
            gains=dict(GAINS[suite.task]),
            augment=augment,
        ),
        freeze=config.freeze,
        replay_public=config.replay,
        shard_lr=config.shard_lr,
        polish_lr=config.polish_lr,
        placement=places,
        aggregate=config.aggregate,
        threads=1,
    )
