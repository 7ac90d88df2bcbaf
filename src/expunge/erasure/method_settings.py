# SPDX-License-Identifier: Apache-2.0
"""Settings for the unlearning of adopted models."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class MethodSettings:
    """Settings for the unlearning of an adopted model.

    Attributes:
        budget: Most compute, in units of a retrain; None: the default.
        accept_no_power: Accept a result with the verdict ``no-power``: its audit could not detect a failure.
        hyperparameters: Hyper-parameters of the method, by name.
        seed: Seed of all randomness.
        device: Torch device of the computation.
        threads: Number of torch threads; None: unchanged. Results repeat bit by bit for the same number.
        level: Level of the audit that decides: ``quick``, ``standard`` or ``full``.
        references: Number of reference models of the audit; None: the level's default.
    """

    budget: float | None = None
    accept_no_power: bool = False
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    level: str = "quick"
    references: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the settings as they are stored with a request."""
        return asdict(self)
