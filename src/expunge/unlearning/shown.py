# SPDX-License-Identifier: Apache-2.0
"""Probes that are shown beside a verdict and never decide it: what they can find differs from model to model.

``relearn``: how soon a model learns the forgotten again; ``linear``: members told by features alone;
``int8`` and ``onnx``: the losses after the weights were rounded, or the model exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn
from torch.utils.data import Subset

from expunge.audit.scores import Scores
from expunge.errors import InputError
from expunge.tasks.protocol import Samples, Task
from expunge.unlearning.exported import ONNX, exported, require_onnx
from expunge.unlearning.judging import losses_of
from expunge.unlearning.linear import LINEAR, cross_fit, features_of, fold
from expunge.unlearning.material import Material, group_numbers
from expunge.unlearning.quantised import INT8, quantised
from expunge.unlearning.relearn import Relearning

PROBES = ("relearn", "linear", "int8", "onnx")
VIEWS = {"linear": LINEAR, "int8": INT8, "onnx": ONNX}
Pair = tuple[Scores, Scores]


@dataclass(frozen=True)
class Shown:
    """What the probes found of one model.

    Attributes:
        views: Losses on the forgotten and on the unseen, by view; low: "member".
        steps: (1 + k,) see :meth:`~expunge.unlearning.relearn.Relearning.steps`; None: not asked for.
    """

    views: dict[str, Pair] = field(default_factory=dict)
    steps: Scores | None = None


class Probes:
    """The probes of one audit: the same samples, folds and draws for every model.

    Args:
        names: Some of PROBES.
        task: The model family.
        original: The model before the erasure.
        material: The data.
        seed: Of halves, folds and draws.

    Raises:
        InputError: If there is no such probe, it needs a package or data that is not there, or a class was
            removed.
    """

    def __init__(
        self, names: Sequence[str], task: Task, original: nn.Module, material: Material, seed: int
    ) -> None:
        check_probes(names)
        if names and material.goal == "class":
            raise InputError(
                "The removal of a class has no probes.",
                "It is judged by whether the class is still named.",
                "Leave them out.",
            )
        if names and len(material.unseen) < 2:
            raise InputError(
                f"The probe {names[0]} needs unseen data.",
                f"There are {len(material.unseen)} such samples to compare with.",
                "Give more of them, or leave the probes out.",
            )
        self.names, self._task, self._material = tuple(names), task, material
        forget = group_numbers(material.forget_groups, len(material.forget))
        unseen = group_numbers(material.unseen_groups, len(material.unseen))
        self.relearning = (
            Relearning(task, original, material.forget, material.unseen, forget, unseen, seed)
            if "relearn" in names
            else None
        )
        self._folds = fold(len(material.retain), unseen, forget, np.random.default_rng(seed))

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the probes add."""
        return tuple(VIEWS[name] for name in self.names if name in VIEWS)

    def ask(self, model: nn.Module) -> Shown:
        """Return what the probes find of a model."""
        task, material = self._task, self._material
        found: dict[str, Pair] = {}
        if "linear" in self.names:
            found[LINEAR] = self._linear(model)
        for name, change in (("int8", quantised), ("onnx", exported)):
            if name in self.names:
                twin = change(task, model)
                found[VIEWS[name]] = (
                    losses_of(task, twin, material.forget),
                    losses_of(task, twin, material.unseen),
                )
        return Shown(found, self.relearning.steps(model) if self.relearning else None)

    def _linear(self, model: nn.Module) -> Pair:
        task, material, folds = self._task, self._material, self._folds
        learnt: Samples = Subset(material.retain, folds.learnt.tolist())  # type: ignore[arg-type]
        retain, unseen, forget = (
            features_of(task, model, data) for data in (learnt, material.unseen, material.forget)
        )
        return cross_fit(retain, unseen, forget, folds)


def check_probes(names: Sequence[str]) -> None:
    """Refuse probes that there are not, or that cannot be run here.

    Raises:
        InputError: Says which.
    """
    for name in names:
        if name not in PROBES:
            raise InputError(f"There is no probe '{name}'.", "", f"Choose among {', '.join(PROBES)}.")
    if "onnx" in names:
        require_onnx()
