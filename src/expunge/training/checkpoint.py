# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: complete training states in fp32, stored as safetensors and written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import StorageError
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    import torch


PARTS = ("model", "ema", "optimizer")


@dataclass
class State:
    """A training state from which training resumes as if it had never stopped.

    Attributes:
        model: Current weights and buffers.
        ema: Exponential moving average of ``model``; these weights are deployed.
        optimizer: Optimizer tensors per parameter, keyed ``index.name``; empty at the start of a phase.
        scalars: Optimizer values per parameter that are plain numbers.
        ema_updates: Number of EMA updates in this phase.
        epoch: Number of completed epochs of the phase.
    """

    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    ema_updates: int = 0
    epoch: int = 0

    def as_start(self) -> State:
        """Return the start of a new phase: the EMA weights, with a fresh optimizer and a fresh EMA."""
        return State(model=dict(self.ema), ema=dict(self.ema))


def save_state(path: Path, state: State, about: Mapping[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: The file to write.
        state: The training state; a digest of each part is stored with it.
        about: Further information, stored as JSON in the file's metadata.
    """
    from safetensors.torch import save

    from expunge.storage.hashing import tensor_digest

    tensors = {
        f"{part}/{name}": value.detach().contiguous().clone()
        for part in PARTS
        for name, value in getattr(state, part).items()
    }
    numbers = {"scalars": state.scalars, "ema_updates": state.ema_updates, "epoch": state.epoch}
    digests = {part: tensor_digest(getattr(state, part)) for part in PARTS}
    content = {"state": numbers, "about": dict(about), "digests": digests}
    metadata = {"expunge": json.dumps(content, sort_keys=True)}
    write_atomically(path, save(tensors, metadata), "A checkpoint")


def load_state(path: Path) -> tuple[State, dict[str, Any]]:
    """Return the state in a checkpoint, and the ``about`` that was stored with it.

    Raises:
        StorageError: If the file is damaged. The file is removed, so that it is trained again.
    """
    parts, metadata = _read(path, PARTS)
    state = State(parts["model"], parts["ema"], parts["optimizer"], **metadata["state"])
    return state, metadata["about"]


def load_part(path: Path, part: str) -> dict[str, torch.Tensor]:
    """Return one part of a checkpoint (``model`` or ``ema``), without reading the others.

    Raises:
        StorageError: See :func:`load_state`.
    """
    return _read(path, (part,))[0][part]


def _read(path: Path, wanted: Sequence[str]) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    from expunge.storage.hashing import tensor_digest

    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in wanted}
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = json.loads(file.metadata()["expunge"])
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                part, _, name = key.partition("/")
                if part in parts:
                    parts[part][name] = file.get_tensor(key)
        digests = metadata.get("digests", {})
        intact = all(tensor_digest(parts[part]) == digests[part] for part in wanted if part in digests)
    except (SafetensorError, KeyError, TypeError, ValueError):
        intact, metadata = False, {}
    if not intact:
        path.unlink(missing_ok=True)
        raise StorageError(
            "A checkpoint is damaged, and was removed.",
            f"{path.name} does not hold what was written to it; the disk may be failing.",
            "Run the command again, or `expunge repair`, to train the checkpoint again.",
        )
    return parts, metadata
