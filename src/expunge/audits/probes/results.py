# SPDX-License-Identifier: Apache-2.0
"""Probes that are reported with a verdict without affecting it, since their power depends on the model.

``relearn``: steps until a model learns the forget set again; ``linear``: membership inference from features;
``int8`` and ``onnx``: losses after rounding of the weights, or after export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn
from torch.utils.data import Subset

from expunge.audits.probes.exported import ONNX, exported, require_onnx
from expunge.audits.probes.linear import LINEAR, cross_fit, features_of, fold
from expunge.audits.probes.quantised import INT8, quantised
from expunge.audits.probes.relearn import Relearning
from expunge.audits.quick import losses_of
from expunge.audits.scores import Scores
from expunge.audits.unlearning_data import UnlearningData, group_numbers
from expunge.errors import InputError
from expunge.tasks.protocol import Samples, Task

PROBES = ("relearn", "linear", "int8", "onnx")
VIEWS = {"linear": LINEAR, "int8": INT8, "onnx": ONNX}
Pair = tuple[Scores, Scores]


@dataclass(frozen=True)
class ProbeResults:
    """Results of the probes for one model.

    Attributes:
        views: Losses on the forgotten and the unseen samples, by view; low: "member".
        steps: (1 + k,) see :meth:`~expunge.audits.probes.relearn.Relearning.steps`; None: not requested.
    """

    views: dict[str, Pair] = field(default_factory=dict)
    steps: Scores | None = None


class Probes:
    """The probes of one audit, with the same samples, folds and draws for all models.

    Args:
        names: Names from PROBES.
        task: Task of the models.
        original: The model before the erasure.
        material: The data.
        seed: Seed of halves, folds and draws.

    Raises:
        InputError: If a probe is unknown, needs a missing package or missing data, or the goal is ``class``.
    """

    def __init__(
        self, names: Sequence[str], task: Task, original: nn.Module, material: UnlearningData, seed: int
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

    def run(self, model: nn.Module) -> ProbeResults:
        """Return the results of the probes for a model."""
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
        return ProbeResults(found, self.relearning.steps(model) if self.relearning else None)

    def _linear(self, model: nn.Module) -> Pair:
        task, material, folds = self._task, self._material, self._folds
        learnt: Samples = Subset(material.retain, folds.learnt.tolist())  # type: ignore[arg-type]
        retain, unseen, forget = (
            features_of(task, model, data) for data in (learnt, material.unseen, material.forget)
        )
        return cross_fit(retain, unseen, forget, folds)


def check_probes(names: Sequence[str]) -> None:
    """Raise InputError if a probe is unknown or cannot run here.

    Raises:
        InputError: With the name of the probe.
    """
    for name in names:
        if name not in PROBES:
            raise InputError(f"There is no probe '{name}'.", "", f"Choose among {', '.join(PROBES)}.")
    if "onnx" in names:
        require_onnx()
