# SPDX-License-Identifier: Apache-2.0
"""What every attack and statistic asks of its input, said once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audit.scores import Scores
from expunge.errors import InputError


def numbers(values: ArrayLike, name: str, *, dimensions: int = 1, least: int = 1) -> Scores:
    """Return scores as float64, if they are fit to be judged by.

    Args:
        values: (n,), or (models, n) where ``dimensions`` is 2.
        name: Says in an error which scores are meant.
        dimensions: How many dimensions they must have.
        least: How many entries the first dimension must have; every other one needs one.

    Raises:
        InputError: If the shape is another, there are too few, or one of them is no finite number.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != dimensions:
        raise InputError(
            f"The scores of {name} have the wrong shape.",
            f"They have {found.ndim} dimensions, and {dimensions} are expected.",
            "Give one score for every sample, models first where there are several.",
        )
    if found.shape[0] < least or found.size == 0:
        raise InputError(
            f"There are too few scores of {name}.",
            f"Their shape is {found.shape}; the first number must be at least {least}, none may be 0.",
            "Score more data or more models.",
        )
    if not np.isfinite(found).all():
        raise InputError(
            f"The scores of {name} are not all finite numbers.",
            f"{int((~np.isfinite(found)).sum())} of {found.size} are NaN or infinite.",
            "Look at the model and the data: one of them is damaged.",
        )
    return found


def sides(members: ArrayLike, others: ArrayLike) -> tuple[Scores, Scores]:
    """Return the scores (n,) and (m,) of two sides that are to be told apart.

    Raises:
        InputError: As :func:`numbers`, or if all scores of both sides are the same.
    """
    one, two = numbers(members, "the first side"), numbers(others, "the second side")
    varied(np.concatenate([one, two]), "both sides")
    return one, two


def varied(values: Scores, name: str) -> None:
    """Refuse scores that are all the same: they find nothing, which proves nothing.

    Raises:
        InputError: If they are.
    """
    if values.min() == values.max():
        raise InputError(
            f"The scores of {name} are constant.",
            "A score that says the same of every sample can tell nothing apart, whatever the model knows.",
            "Look at the model, which may be destroyed, or choose another score.",
        )


def same_columns(arrays: Sequence[Scores], name: str) -> None:
    """Refuse arrays (…, n) that are not about the same n samples.

    Raises:
        InputError: If the last dimensions differ.
    """
    lengths = sorted({array.shape[-1] for array in arrays})
    if len(lengths) > 1:
        raise InputError(
            f"The scores of {name} are not those of the same samples.",
            f"There are {' and '.join(str(n) for n in lengths)} of them.",
            "Score the same samples, in the same order, with every model.",
        )


def mask(values: ArrayLike | None, shape: tuple[int, ...], name: str, *, default: bool) -> NDArray[np.bool_]:
    """Return a mask of a given shape; all ``default`` where there is none.

    Raises:
        InputError: If its shape is another, or it is not of truth values.
    """
    if values is None:
        return np.full(shape, default)
    found = np.asarray(values)
    if found.shape != shape or found.dtype != np.bool_:
        raise InputError(
            f"It is not said for every model and sample {name}.",
            f"A mask of truth values of shape {shape} is expected; this one has {found.shape}.",
            "Give one truth value for every score.",
        )
    return found


def between(value: float, low: float, high: float, name: str) -> float:
    """Return a setting that lies within ``low`` and ``high``, both excluded.

    Raises:
        InputError: If it does not.
    """
    if not low < value < high:
        raise InputError(
            f"The {name} is {value:g}.", f"It must lie between {low:g} and {high:g}.", "Correct it."
        )
    return value
