# SPDX-License-Identifier: Apache-2.0
"""The global random generators of Python, NumPy and torch: saving, restoring and seeding."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def isolated_rng() -> Iterator[None]:
    """Restore the state of the global generators at the end of the block."""
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])
        torch.set_rng_state(saved[2])


def seed_everything(value: int) -> None:
    """Seed the global generators of Python, NumPy and torch with a 64-bit value."""
    random.seed(value)
    np.random.seed([value & 0xFFFFFFFF, value >> 32])
    torch.default_generator.manual_seed(value & (2**63 - 1))
