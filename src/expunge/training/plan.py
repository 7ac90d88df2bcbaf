# SPDX-License-Identifier: Apache-2.0
"""The training plan: all constants on which an exact result depends. The file names no person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from expunge.errors import InputError
from expunge.storage.files import write_atomically
from expunge.storage.hashing import json_digest
from expunge.storage.user_files import parse_json, read_bytes


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipe(_Frozen):
    """Hyperparameters of one stage.

    Attributes:
        anneal: ``stage`` decays the learning rate to ``lr0 * lrf`` within every stage, so that each
            checkpoint can be deployed; ``phase`` spreads one decay over all stages.
        augment: All of Ultralytics' augmentation settings.
    """

    imgsz: int = Field(gt=0)
    batch: int = Field(gt=0)
    optimizer: Literal["SGD", "AdamW", "Adam", "MuSGD"]
    lr0: float = Field(gt=0)
    lrf: float = Field(gt=0, le=1)
    momentum: float
    weight_decay: float = Field(ge=0)
    warmup_epochs: float = Field(ge=0)
    anneal: Literal["stage", "phase"] = "stage"
    close_mosaic: int = Field(ge=0, default=0)
    gains: dict[str, float] = Field(default_factory=dict)
    augment: dict[str, float | str | None] = Field(default_factory=dict)


class Cell(_Frozen):
    """A slice of a shard to which subjects are assigned, and its share of the risk bin's subjects."""

    shard: int = Field(ge=0)
    slice: int = Field(ge=0)
    share: float = Field(gt=0)


class Placement(_Frozen):
    """The assignment of subjects to cells, fixed in the plan.

    Attributes:
        risk_edges: Ascending bin edges of the risk column.
        bins: The cells of each risk bin.
    """

    risk_edges: tuple[float, ...] = ()
    bins: tuple[tuple[Cell, ...], ...]

    @model_validator(mode="after")
    def _one_list_per_bin(self) -> Placement:
        if len(self.bins) != len(self.risk_edges) + 1 or not all(self.bins):
            raise ValueError("placement needs one non-empty list of cells for each risk bin")
        return self


class Epochs(_Frozen):
    """Numbers of epochs: of the public phase, of each stage of a shard, and of the polish after the merge."""

    public: int = Field(ge=0)
    stages: tuple[int, ...]
    polish: int = Field(ge=0)


class Initial(_Frozen):
    """The weights from which training starts; ``tensors`` is their digest."""

    source: str
    tensors: str


class Plan(_Frozen):
    """All inputs of a training except the retained samples.

    ``shard_lr`` and ``polish_lr`` are the initial learning rates of the shards and of the polish. Without
    ``shard_lr`` the shards start at the recipe's ``lr0``.
    """

    format: Literal["expunge-plan/1"] = "expunge-plan/1"
    task: str
    names: tuple[str, ...]
    architecture: dict[str, Any]
    initial: Initial
    seed: int
    shards: int = Field(ge=1)
    slices: int = Field(ge=1)
    epochs: Epochs
    recipe: Recipe
    freeze: int = Field(ge=0, default=0)
    replay_public: bool = False
    shard_lr: float | None = Field(gt=0, default=None)
    polish_lr: float = Field(gt=0, default=3e-4)
    aggregate: Literal["average", "ensemble"] = "average"
    interim: Literal["auto", "others", "include"] = "auto"
    placement: Placement
    threads: int = Field(ge=1)
    isa: Literal["native", "avx2", "default"] = "native"
    device: Literal["cpu"] = "cpu"
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        if len(self.epochs.stages) != self.slices:
            raise ValueError("epochs.stages needs one number for each slice")
        for cells in self.placement.bins:
            if any(cell.shard >= self.shards or cell.slice >= self.slices for cell in cells):
                raise ValueError("a placement cell lies outside the shards and slices")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the plan's content, without ``notes``."""
        return json_digest(self.model_dump(mode="json", exclude={"notes"}))

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        write_atomically(path, f"{text}\n".encode(), "The plan")


def load_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        InputError: If the file does not exist or is not a plan.
    """
    try:
        return Plan.model_validate(parse_json(read_bytes(path)))
    except OSError as error:
        raise InputError(
            f"The plan {path} cannot be read.", str(error.strerror), "Check the path."
        ) from error
    except (ValidationError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is not JSON"
        raise InputError(
            f"{path} is not a plan of this version.", first, "Make one with `expunge plan … --out`."
        ) from error
