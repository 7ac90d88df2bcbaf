# SPDX-License-Identifier: Apache-2.0
"""Models that never saw a part of the training data: K-fold cross-validation by whole trainings.

Each of K models is trained, as the recorded training was, on all but one part, and speaks of that part. All
samples of a person, and of those who share pictures with that person, are in one part. Price: K − 1 retrains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from expunge.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from expunge.tasks.protocol import Samples, Task


def folds_of(groups: Sequence[str | int], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold of every sample (n,): groups are kept together, and dealt out evenly at random.

    Args:
        groups: What may not be torn apart.
        folds: K.
        seed: Of the division.

    Raises:
        InputError: If there are fewer groups than folds, or fewer than two folds.
    """
    _, numbers = np.unique(np.array(groups), return_inverse=True)
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if folds < 2 or count < folds:
        raise InputError(
            f"{folds} folds do not fit.",
            f"The training samples belong to {count} subject(s) or linked groups of subjects; each fold "
            "needs one, and there must be two folds.",
            "Choose another number of folds.",
        )
    dealt = np.empty(count, dtype=np.int64)
    dealt[np.random.default_rng(seed).permutation(count)] = np.arange(count) % folds
    found: NDArray[np.int64] = dealt[numbers]
    return found


def out_of_fold(
    task: Task,
    module: nn.Module,
    train: Samples,
    groups: Sequence[str | int],
    *,
    folds: int,
    epochs: int,
    seed: int = 0,
    on_images: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[nn.Module, NDArray[np.int64]]]:
    """Train K models, and yield each with the samples that it never saw.

    Args:
        task: Trains.
        module: Says the architecture.
        train: All training samples.
        groups: What may not be torn apart, by sample.
        folds: K.
        epochs: Of each training.
        seed: Of the division, and of the trainings.
        on_images: Is told of the images done.

    Raises:
        InputError: See :func:`folds_of`.
    """
    import torch
    from torch.utils.data import Subset

    fold = folds_of(groups, folds, seed)
    for k in range(folds):
        kept: Samples = Subset(train, np.flatnonzero(fold != k).tolist())  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed)
        yield (
            task.retrain(module, kept, epochs=epochs, generator=generator, images=on_images),
            np.flatnonzero(fold == k),
        )
