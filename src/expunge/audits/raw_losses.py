# SPDX-License-Identifier: Apache-2.0
"""Losses of each sample behind a verdict, for plots and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.audits.references import PairedLosses


@dataclass(frozen=True)
class RawLosses:
    """Losses of all models on the same samples, by view; without names of samples and people.

    Attributes:
        views: Losses on the forget set and on the unseen data, by view.
        forget_groups, unseen_groups: (n,) and (m,) numbers of the people, from 0 in order of appearance.
    """

    views: Mapping[str, tuple[PairedLosses, PairedLosses]]
    forget_groups: NDArray[np.int64]
    unseen_groups: NDArray[np.int64]
