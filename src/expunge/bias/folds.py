# SPDX-License-Identifier: Apache-2.0
"""K-fold cross-validation by full trainings.

Each of K models is trained like the recorded training on all folds but one, and predicts that fold. All
samples of a person, and of people who share images with that person, are in one fold. The cost is K − 1
retrains.
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
    """Return the fold of each sample (n,); groups are kept together and distributed evenly at random.

    Args:
        groups: Group of each sample.
        folds: K.
        seed: Seed of the division.

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
    fold_of_group = np.empty(count, dtype=np.int64)
    fold_of_group[np.random.default_rng(seed).permutation(count)] = np.arange(count) % folds
    folds_of_samples: NDArray[np.int64] = fold_of_group[numbers]
    return folds_of_samples


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
    """Train K models, and yield each with the indices of its held-out fold.

    Args:
        task: Trains the models.
        module: Gives the architecture.
        train: All training samples.
        groups: Group of each sample.
        folds: K.
        epochs: Epochs of each training.
        seed: Seed of the division and of the trainings.
        on_images: Receives the number of images processed.

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
