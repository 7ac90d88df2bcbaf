# SPDX-License-Identifier: Apache-2.0
"""Order, batches and learning rates of an epoch: functions of (plan, retained samples) without state."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.exact.hashing import keyed_hash
from expunge.exact.plan import Recipe


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of epochs on a fixed set of samples.

    Attributes:
        phase: ``public``, ``shard`` or ``polish``; part of every hash, so that phases draw apart.
        first_epoch: Number of epochs of the phase before this stage.
        epochs: Epochs of this stage.
        phase_epochs: Epochs of the whole phase.
        lr0: Initial learning rate.
        fresh: The stage starts from deployable weights alone, with a new optimizer and a warm-up.
    """

    phase: str
    first_epoch: int
    epochs: int
    phase_epochs: int
    lr0: float
    fresh: bool


def epoch_order(seed: int, phase: str, epoch: int, paths: Sequence[str]) -> list[int]:
    """Return the indices of ``paths`` in this epoch's order: sorted by the keyed hash of each path."""
    return sorted(
        range(len(paths)), key=lambda i: (keyed_hash(seed, "order", phase, epoch, paths[i]), paths[i])
    )


def batches(order: Sequence[int], size: int) -> list[list[int]]:
    """Cut an order into batches; a remainder of one joins the previous batch, nothing is dropped."""
    cut = [list(order[i : i + size]) for i in range(0, len(order), size)]
    if len(cut) > 1 and len(cut[-1]) == 1:
        cut[-2].extend(cut.pop())
    return cut


class PartnerRing:
    """Chooses partners for mosaic and mixup among the samples present, by consistent hashing.

    Each sample has a place on a ring that is drawn anew every epoch; a query falls on its successor
    (Karger et al. 1997). Removing a sample changes only those choices in which it was the partner, as
    rendezvous hashing would, at O(log n) a choice instead of O(n).
    """

    def __init__(self, seed: int, phase: str, epoch: int, paths: Sequence[str]) -> None:
        self._key = (seed, phase, epoch)
        ring = sorted((keyed_hash(seed, "ring", phase, epoch, path), i) for i, path in enumerate(paths))
        self._places = [place for place, _ in ring]
        self._indices = [i for _, i in ring]

    def partner(self, path: str, draw: int) -> int:
        """Return the index of the partner of ``path`` in its ``draw``-th choice of this epoch."""
        seed, phase, epoch = self._key
        at = bisect.bisect_left(self._places, keyed_hash(seed, "partner", phase, epoch, path, draw))
        return self._indices[at % len(self._indices)]


def learning_rate(recipe: Recipe, stage: Stage, epoch: int, done: float) -> float:
    """Return the factor-free learning rate at ``epoch + done`` (0 <= done < 1), without warm-up.

    Linear decay from ``lr0`` to ``lr0 * lrf`` over the stage or over the phase.
    """
    first, length = (stage.first_epoch, stage.epochs) if recipe.anneal == "stage" else (0, stage.phase_epochs)
    progress = min((epoch - first + done) / max(length, 1), 1.0)
    return stage.lr0 * ((1 - progress) * (1 - recipe.lrf) + recipe.lrf)


def warmup(recipe: Recipe, stage: Stage, epoch: int, done: float) -> float:
    """Return the factor in (0, 1] by which warm-up scales the rate after a fresh start.

    At most half of the stage: a short one must not end before it has trained.
    """
    if not stage.fresh:
        return 1.0
    length = min(recipe.warmup_epochs, stage.epochs / 2)
    return min((epoch - stage.first_epoch + done) / length, 1.0) if length > 0 else 1.0


def stage_epochs(epochs: int, slices: int) -> tuple[int, ...]:
    """Split ``epochs`` passes over a shard's data into stages on slices 1..k of R (SISA, section 4.4).

    Stages of equal length e need e(R+1)/2 passes, so e = 2E/(R+1); the remainder goes to the last stages.
    """
    length = 2 * epochs / (slices + 1)
    stages = [max(int(length), 1)] * slices
    passes = sum(e * (k + 1) / slices for k, e in enumerate(stages))
    for k in reversed(range(slices)):
        if passes + (k + 1) / slices <= epochs + 1e-9:
            stages[k] += 1
            passes += (k + 1) / slices
    return tuple(stages)
