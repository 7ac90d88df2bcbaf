# SPDX-License-Identifier: Apache-2.0
"""The count sketch: a random projection that preserves inner products.

Each coordinate is added, with a random sign, to one of k coordinates. ⟨Sa, Sb⟩ has the expectation ⟨a, b⟩ and
a variance of at most 2‖a‖²‖b‖²/k.

Reference: Charikar, Chen and Farach-Colton, *Finding Frequent Items in Data Streams*, ICALP 2002; as a
projection of features: Weinberger et al., *Feature Hashing for Large Scale Multitask Learning*, ICML 2009,
lemma 2.
"""

from __future__ import annotations

import torch


class Sketch:
    """A fixed random projection to ``dims`` coordinates; shorter vectors are not changed.

    Args:
        dims: k.
        seed: Seed of the coordinates and signs.
    """

    def __init__(self, dims: int, seed: int = 0) -> None:
        self.dims, self._seed = dims, seed
        self._drawn: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the sketches (b, min(d, k)) of vectors (b, d), on their device."""
        length = rows.shape[1]
        if length <= self.dims:
            return rows
        places, signs = self._of(length)
        places, signs = places.to(rows.device), signs.to(rows.device, rows.dtype)
        return rows.new_zeros((len(rows), self.dims)).index_add_(1, places, rows * signs)

    def _of(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        if length not in self._drawn:
            generator = torch.Generator().manual_seed(self._seed)
            places = torch.randint(self.dims, (length,), generator=generator)
            signs = torch.randint(2, (length,), generator=generator, dtype=torch.int8) * 2 - 1
            self._drawn[length] = places, signs
        return self._drawn[length]
