# SPDX-License-Identifier: Apache-2.0
"""What came out of an unlearning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from expunge.audit.verdict import Verdict
from expunge.errors import InputError
from expunge.exact.checkpoint import write_atomically

RETRAIN = "retrain"


@dataclass(frozen=True)
class Attempt:
    """One method that was tried.

    Attributes:
        method: Its name.
        outcome: ``pass``, ``fail``, ``no-power``, or ``not tried``.
        reasons: Why it was not taken, or what speaks for it.
        seconds, passes: What it cost; passes of one sample.
    """

    method: str
    outcome: str
    reasons: tuple[str, ...]
    seconds: float = 0.0
    passes: float = 0.0


@dataclass(frozen=True)
class Result:
    """A model after unlearning, what it reached, and what it cost.

    Attributes:
        model: A new module, fit for use; the one that was passed in is untouched.
        method: The method that made it.
        verdict: ``pass``, ``fail`` or ``no-power``, by comparison with unseen data (no reference model).
        reasons: Plain sentences for it.
        warnings: What the reader should know besides.
        metrics: ``before`` and ``after``, each with ``forget``, ``retain`` and ``test``.
        audit: The figures behind the verdict.
        seconds: Wall-clock seconds of the method, without the judging.
        steps: Changes made to the weights.
        passes: Work in passes (forward and backward) of one sample.
        cost: Work in units of a retrain; None where nobody knows what a retrain takes.
        hyperparameters, seed: With what it ran.
        rolled_back: The method's last state was not fit for use, and an earlier one is returned.
        unchanged: The model is the original, tensor by tensor (the method made no step, its steps changed
            nothing, or not one state was fit for use), or gives every forgotten sample the same loss to the
            last bit. The verdict is ``fail`` then.
        rounds: Utility after each round.
        tried: All attempts, in order.
        recommendation: What to do next; empty if nothing.
    """

    model: nn.Module
    method: str
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    metrics: dict[str, dict[str, dict[str, float]]]
    audit: Verdict
    seconds: float
    steps: int
    passes: float
    cost: float | None
    hyperparameters: dict[str, Any]
    seed: int
    rolled_back: bool = False
    unchanged: bool = False
    rounds: tuple[dict[str, Any], ...] = ()
    tried: tuple[Attempt, ...] = ()
    recommendation: str = ""
    writer: Callable[[nn.Module], bytes] | None = field(default=None, repr=False)

    @property
    def sound(self) -> bool:
        """Whether nothing more is needed: it passed, or it was trained anew without the forget set.

        A retrain that kept its utility is sound by how it was made, whatever a comparison with unseen data
        says: forgotten and unseen people may differ in more than the training.
        """
        retrained = self.method == RETRAIN and bool(self.audit.utility.get("holds"))
        return not self.unchanged and (self.verdict == "pass" or retrained)

    def save(self, path: str | Path) -> Path:
        """Write the model: a ``.pt`` that plain Ultralytics loads, or for any other module its state dict.

        A state dict is written as safetensors; the file's name says so.

        Raises:
            InputError: If the model is the original, or the name does not fit what would be in the file.
            StorageError: If it cannot be written; then there is no half-written file.
        """
        if self.unchanged:
            raise InputError(
                "The model was not saved.",
                self.reasons[0],
                self.recommendation or "Use another method, or method='retrain'.",
            )
        path = Path(path)
        wanted = ".pt" if self.writer else ".safetensors"
        if path.suffix != wanted:
            raise InputError(
                f"The model cannot be saved as {path.name}.",
                "An Ultralytics model is saved as .pt, any other as .safetensors (its state dict).",
                f"Choose a name that ends in {wanted}.",
            )
        write_atomically(path, self.writer(self.model) if self.writer else _tensors(self.model), "The model")
        return path

    def as_json(self) -> dict[str, Any]:
        """Return everything but the model."""
        names = (
            "method", "verdict", "reasons", "warnings", "metrics", "seconds", "steps", "passes", "cost",
            "hyperparameters", "seed", "rolled_back", "unchanged", "rounds", "recommendation", "sound",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        found["hyperparameters"] = {k: _plain(v) for k, v in self.hyperparameters.items()}
        return {
            **found,
            "level": self.audit.level,
            "figures": list(self.audit.figures),
            "utility": self.audit.utility,
            "tried": [vars(attempt) for attempt in self.tried],
        }


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def _tensors(model: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()})
