# SPDX-License-Identifier: Apache-2.0
"""The losses behind a verdict, sample by sample, for who wants to draw or to check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.audit.references import Asked


@dataclass(frozen=True)
class Raw:
    """Losses of all models for the same samples, by view; no sample and no person has a name here.

    Attributes:
        views: Of each view the losses on the forgotten and on the unseen.
        forget_groups, unseen_groups: (n,) and (m,) numbers of the people, from 0 in order of appearance.
    """

    views: Mapping[str, tuple[Asked, Asked]]
    forget_groups: NDArray[np.int64]
    unseen_groups: NDArray[np.int64]
