# SPDX-License-Identifier: Apache-2.0
"""Full training states on disk: fp32, safetensors, written so that a half-written one is never seen."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import StorageError

if TYPE_CHECKING:
    import torch


PARTS = ("model", "ema", "optimizer")


@dataclass
class State:
    """All that training needs to go on as if it had never stopped.

    Attributes:
        model: The live weights and buffers.
        ema: Their exponential moving average: the model to deploy.
        optimizer: Per-parameter tensors, keyed ``index.name``; empty at the start of a phase.
        scalars: Per-parameter numbers of the optimizer that are no tensors.
        ema_updates: Number of EMA updates in this phase.
        epoch: Epochs of the phase that are done.
    """

    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    ema_updates: int = 0
    epoch: int = 0

    def as_start(self) -> State:
        """The start of another phase: from the deployable weights, everything else fresh."""
        return State(model=dict(self.ema), ema=dict(self.ema))


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn a refusal of the disk into an error for people."""
    try:
        yield
    except OSError as error:
        _raise_storage(what, error)
    except Exception as error:  # safetensors reports I/O failures with its own class
        if "os error" in str(error).lower() or "no space" in str(error).lower():
            _raise_storage(what, error)
        raise


def _raise_storage(what: str, error: Exception) -> None:
    full = getattr(error, "errno", None) == errno.ENOSPC or "no space" in str(error).lower()
    reason = (
        "The disk is full."
        if full
        else f"The system said: {getattr(error, 'strerror', None) or type(error).__name__}."
    )
    raise StorageError(
        f"{what} could not be written.",
        reason,
        "Free some space and run the command again: it goes on where it stopped, nothing was lost.",
    ) from error


def write_atomically(path: Path, data: bytes, what: str = "A file") -> None:
    """Write bytes so that ``path`` holds either the old content or all of the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(what):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            temporary.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Delete what killed writers of the same file left half-written."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        pid = left.name.removesuffix(".tmp").rpartition(".")[2]
        if not pid.isdigit() or not running(int(pid)):
            left.unlink(missing_ok=True)


def running(pid: int) -> bool:
    """Whether a process of that number runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def save_state(path: Path, state: State, about: Mapping[str, Any]) -> None:
    """Write a state; ``about`` is kept beside it as JSON, and a digest of each part."""
    from safetensors.torch import save

    from expunge.exact.hashing import tensor_digest

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
    """Read a state and what was said about it.

    Raises:
        StorageError: If it is damaged; it is removed then, so that it is trained anew.
    """
    parts, metadata = _read(path, PARTS)
    state = State(parts["model"], parts["ema"], parts["optimizer"], **metadata["state"])
    return state, metadata["about"]


def load_part(path: Path, part: str) -> dict[str, torch.Tensor]:
    """Read only ``model`` or ``ema`` of a state (a merge needs no optimizer); else as :func:`load_state`."""
    return _read(path, (part,))[0][part]


def _read(path: Path, wanted: Sequence[str]) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    from expunge.exact.hashing import tensor_digest

    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in wanted}
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = json.loads(file.metadata()["expunge"])
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                part, _, name = key.partition("/")
                if part in parts:
                    parts[part][name] = file.get_tensor(key)
        digests = metadata.get("digests", {})
        whole = all(tensor_digest(parts[part]) == digests[part] for part in wanted if part in digests)
    except (SafetensorError, KeyError, TypeError, ValueError):
        whole, metadata = False, {}
    if not whole:
        path.unlink(missing_ok=True)
        raise StorageError(
            "A checkpoint is damaged, and was removed.",
            f"{path.name} does not hold what was written to it; the disk may be failing.",
            "Run the command again, or `expunge repair`: what the checkpoint held is trained anew.",
        )
    return parts, metadata
