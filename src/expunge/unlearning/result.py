# SPDX-License-Identifier: Apache-2.0
"""The result of an unlearning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from expunge.audits.verdict import Verdict
from expunge.errors import InputError
from expunge.storage.files import write_atomically

RETRAIN = "retrain"


@dataclass(frozen=True)
class Attempt:
    """One method that was tried.

    Attributes:
        method: Its name.
        outcome: ``pass``, ``fail``, ``no-power``, or ``not tried``.
        reasons: Reasons for the outcome.
        seconds, passes: Its cost: wall-clock time, and passes of one sample.
    """

    method: str
    outcome: str
    reasons: tuple[str, ...]
    seconds: float = 0.0
    passes: float = 0.0


@dataclass(frozen=True)
class Result:
    """A model after unlearning, with its verdict and its cost.

    Attributes:
        model: A new module whose utility holds; the input model is untouched.
        method: The method that made it.
        verdict: ``pass``, ``fail`` or ``no-power``, by comparison with unseen data (no reference model).
        reasons: Plain sentences for the verdict.
        warnings: Further remarks for the reader.
        metrics: ``before`` and ``after``, each with ``forget``, ``retain`` and ``test``.
        audit: The figures behind the verdict.
        seconds: Wall-clock seconds of the method, without the audit.
        steps: Number of updates of the weights.
        passes: Work in passes (forward and backward) of one sample.
        cost: Work in units of a retrain; None: the length of a retrain is unknown.
        hyperparameters, seed: Settings of the run.
        rolled_back: Whether the utility of the last state did not hold and an earlier state is returned.
        unchanged: Whether the model equals the original tensor by tensor (no step, steps without effect, or
            no state whose utility held), or has the same loss on every forgotten sample to the last bit. The
            verdict is then ``fail``.
        rounds: Utility after each round.
        tried: All attempts, in order.
        recommendation: Advice for the user; may be empty.
        writer: Serialises the model for ``save``; None: write its state dict.
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
        """Whether the model can be published: it passed, or it is a retrain whose utility holds.

        A retrain is sound by construction, even if it differs between forgotten and unseen people: these
        may differ in more than the training.
        """
        retrained = self.method == RETRAIN and bool(self.audit.utility.get("holds"))
        return not self.unchanged and (self.verdict == "pass" or retrained)

    def save(self, path: str | Path) -> Path:
        """Write the model to a file, and return its path.

        An Ultralytics model is written as a ``.pt`` that plain Ultralytics loads, any other module as a
        ``.safetensors`` file with its state dict.

        Raises:
            InputError: If the model is unchanged, or the suffix of the path does not fit the format.
            StorageError: If it cannot be written; no partial file is left.
        """
        if self.unchanged:
            raise InputError(
                "The model was not saved.",
                self.reasons[0],
                self.recommendation or "Use another method, or method='retrain'.",
            )
        path = Path(path)
        suffix = ".pt" if self.writer else ".safetensors"
        if path.suffix != suffix:
            raise InputError(
                f"The model cannot be saved as {path.name}.",
                "An Ultralytics model is saved as .pt, any other as .safetensors (its state dict).",
                f"Choose a name that ends in {suffix}.",
            )
        write_atomically(path, self.writer(self.model) if self.writer else _tensors(self.model), "The model")
        return path

    def as_json(self) -> dict[str, Any]:
        """Return all fields except the model, as JSON values."""
        names = (
            "method", "verdict", "reasons", "warnings", "metrics", "seconds", "steps", "passes", "cost",
            "hyperparameters", "seed", "rolled_back", "unchanged", "rounds", "recommendation", "sound",
        )  # fmt: skip
        fields = {name: getattr(self, name) for name in names}
        fields["hyperparameters"] = {k: _plain(v) for k, v in self.hyperparameters.items()}
        return {
            **fields,
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
