# SPDX-License-Identifier: Apache-2.0
"""Sample order, batches and learning rates: stateless functions of the plan and the retained samples."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.storage.hashing import keyed_hash
from expunge.training.plan import Recipe


@dataclass(frozen=True, slots=True)
class Stage:
    """A number of epochs on a fixed set of samples.

    Attributes:
        phase: ``public``, ``shard`` or ``polish``. It enters every hash, so that phases draw independently.
        first_epoch: Number of epochs of the phase before this stage.
        epochs: Epochs of this stage.
        phase_epochs: Epochs of the whole phase.
        lr0: Initial learning rate.
        fresh: Whether the stage starts from EMA weights alone, with a new optimizer and a warm-up.
    """

    phase: str
    first_epoch: int
    epochs: int
    phase_epochs: int
    lr0: float
    fresh: bool


def epoch_order(seed: int, phase: str, epoch: int, paths: Sequence[str]) -> list[int]:
    """Return the indices of ``paths`` in the order of an epoch: sorted by the keyed hash of each path."""
    return sorted(
        range(len(paths)), key=lambda i: (keyed_hash(seed, "order", phase, epoch, paths[i]), paths[i])
    )


def batches(order: Sequence[int], size: int) -> list[list[int]]:
    """Split an order into batches. A last batch of one sample is merged into the batch before it."""
    groups = [list(order[i : i + size]) for i in range(0, len(order), size)]
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2].extend(groups.pop())
    return groups


class PartnerRing:
    """Chooses the partner samples for mosaic and mixup by consistent hashing (Karger et al. 1997).

    Each sample has a position on a ring that is redrawn every epoch; a query is assigned to its successor.
    Removing a sample changes only the choices in which it was the partner. Rendezvous hashing has the same
    property, but costs O(n) per choice; this costs O(log n).
    """

    def __init__(self, seed: int, phase: str, epoch: int, paths: Sequence[str]) -> None:
        self._key = (seed, phase, epoch)
        ring = sorted((keyed_hash(seed, "ring", phase, epoch, path), i) for i, path in enumerate(paths))
        self._places = [place for place, _ in ring]
        self._indices = [i for _, i in ring]

    def partner(self, path: str, draw: int) -> int:
        """Return the index of the partner of ``path`` in its ``draw``-th choice of this epoch."""
        seed, phase, epoch = self._key
        position = bisect.bisect_left(self._places, keyed_hash(seed, "partner", phase, epoch, path, draw))
        return self._indices[position % len(self._indices)]


def learning_rate(recipe: Recipe, stage: Stage, epoch: int, done: float) -> float:
    """Return the learning rate at ``epoch + done`` (0 <= done < 1), before warm-up.

    It decays linearly from ``lr0`` to ``lr0 * lrf`` over the stage or over the phase (``recipe.anneal``).
    """
    first, length = (stage.first_epoch, stage.epochs) if recipe.anneal == "stage" else (0, stage.phase_epochs)
    progress = min((epoch - first + done) / max(length, 1), 1.0)
    return stage.lr0 * ((1 - progress) * (1 - recipe.lrf) + recipe.lrf)


def warmup(recipe: Recipe, stage: Stage, epoch: int, done: float) -> float:
    """Return the warm-up factor in (0, 1] of the learning rate; 1 unless the stage starts fresh.

    Warm-up takes at most half of the stage, so that a short stage still trains at the full rate.
    """
    if not stage.fresh:
        return 1.0
    length = min(recipe.warmup_epochs, stage.epochs / 2)
    return min((epoch - stage.first_epoch + done) / length, 1.0) if length > 0 else 1.0


def stage_epochs(epochs: int, slices: int) -> tuple[int, ...]:
    """Return the epochs of each stage so that a shard's data is passed ``epochs`` times (SISA, section 4.4).

    Stage k trains on slices 1..k of R. Stages of equal length e need e(R+1)/2 passes, so e = 2E/(R+1). The
    remainder goes to the last stages.
    """
    length = 2 * epochs / (slices + 1)
    stages = [max(int(length), 1)] * slices
    passes = sum(e * (k + 1) / slices for k, e in enumerate(stages))
    for k in reversed(range(slices)):
        if passes + (k + 1) / slices <= epochs + 1e-9:
            stages[k] += 1
            passes += (k + 1) / slices
    return tuple(stages)
