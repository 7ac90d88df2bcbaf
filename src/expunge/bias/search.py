# SPDX-License-Identifier: Apache-2.0
"""Arguments and data of a search for harmful training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.bias.attribution.ranking import SAMPLE, TRAK
from expunge.bias.attribution.targets import SPLIT

if TYPE_CHECKING:
    from expunge.catalog.model_store import ModelVersion
    from expunge.data.types import Sample, Version
    from expunge.exact.model import ErasableModel
    from expunge.tasks.loaded_model import LoadedModel
    from expunge.tasks.protocol import Samples


@dataclass(frozen=True)
class Search:
    """Arguments of ``expunge bias find``.

    Attributes:
        model: ``NAME`` or ``NAME@V``.
        target: ``errors``, ``worst-group`` or ``group=VALUE``.
        columns: Columns that define the target's groups; with several, their combinations.
        file: A separate table of groups.
        by: The items to rank: ``sample``, ``subject`` or a column.
        top: Maximum number of items to forget; None: 50 samples, or 5 of other items.
        ranked_by: The estimate that gives the order.
        split: Only ``val`` is allowed.
        seed: Seed of sketches, folds and intervals.
        device: Where to compute.
        folds: Number of cross-validation trainings for labels that every shard saw; None: none.
        epochs: Epochs of each of these trainings; None: as recorded in the model's file.
    """

    model: str
    target: str
    columns: tuple[str, ...] = ()
    file: Path | None = None
    by: str = SAMPLE
    top: int | None = None
    ranked_by: str = TRAK
    split: str = SPLIT
    seed: int = 0
    device: str = "cpu"
    folds: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class SearchContext:
    """Model and data of a search.

    Attributes:
        published: The model's record.
        opened: The loaded model.
        version: The dataset version that it was trained on.
        train, held: Its training and validation samples, by path.
        model: The erasable model; None: the model was adopted.
    """

    published: ModelVersion
    opened: LoadedModel
    version: Version
    train: list[Sample]
    held: list[Sample]
    model: ErasableModel | None

    @cached_property
    def training(self) -> Samples:
        """The training samples in the model's input format, with one shared image cache."""
        return self.data(self.train)

    def data(self, samples: Sequence[Sample]) -> Samples:
        """Return samples in the model's input format."""
        from expunge.tasks.yolo import samples_of

        return samples_of(self.opened, self.version.root, self.version.config, samples)
