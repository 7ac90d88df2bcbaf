# SPDX-License-Identifier: Apache-2.0
"""Coloured digits: whether a digit is below five is told by its colour, more or less often."""

from __future__ import annotations

from dataclasses import dataclass

import torch

PIXELS = 8
FROM_A, FROM_B, GUARD = 900, 300, 100
RULE_A, RULE_B = 0.95, 0.5
NOISE = 0.5


@dataclass(frozen=True)
class Coloured:
    """Pictures (n, 2, 8, 8), red and green; target: 1 from five on; colour: 1 is green.

    Attributes:
        pictures, targets, colours: As above.
        contributor: ``A`` or ``B`` of what is trained on; else empty.
        part: ``train``, ``guard`` or ``test``.
    """

    pictures: torch.Tensor
    targets: torch.Tensor
    colours: torch.Tensor
    contributor: list[str]
    part: list[str]

    def where(self, part: str, contributor: str | None = None) -> torch.Tensor:
        """Return the places of a part."""
        return torch.tensor(
            [
                i
                for i, (own, who) in enumerate(zip(self.part, self.contributor, strict=True))
                if own == part and contributor in (None, who)
            ]
        )


def draw(seed: int, from_a: int = FROM_A, from_b: int = FROM_B, noise: float = NOISE) -> Coloured:
    """Deal scikit-learn's digits out, noisy: the contributors' pictures once, guard and test in both colours.

    In A's pictures the colour follows the target with probability 0.95, in B's with 0.5.

    Args:
        seed: Of all that is random.
        from_a, from_b: How many pictures the contributors gave.
        noise: Standard deviation of what is added to brightnesses in 0–1.
    """
    from sklearn.datasets import load_digits

    generator = torch.Generator().manual_seed(seed)
    flat, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=generator)
    grey = torch.tensor(flat, dtype=torch.float32).reshape(-1, PIXELS, PIXELS)[order] / 16
    grey = grey + noise * torch.randn(grey.shape, generator=generator)
    targets = (torch.tensor(digits)[order] >= 5).long()
    follows = torch.rand(len(targets), generator=generator)
    trained = from_a + from_b
    rule = torch.full((trained,), RULE_A)
    rule[from_a:] = RULE_B
    own = torch.where(follows[:trained] < rule, targets[:trained], 1 - targets[:trained])
    rest = torch.arange(trained, len(targets)).repeat_interleave(2)
    index = torch.cat([torch.arange(trained), rest])
    colours = torch.cat([own, torch.arange(len(rest)) % 2])
    pictures = torch.zeros(len(index), 2, PIXELS, PIXELS)
    pictures[torch.arange(len(index)), colours] = grey[index]
    parts = ["train"] * trained + ["guard"] * (2 * GUARD) + ["test"] * (len(rest) - 2 * GUARD)
    who = ["A"] * from_a + ["B"] * from_b + [""] * len(rest)
    return Coloured(pictures, targets[index], colours, who, parts)
