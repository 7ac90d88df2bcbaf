# SPDX-License-Identifier: Apache-2.0
"""AdamW, fused and plain."""

from __future__ import annotations

import pytest
import torch

from expunge.tasks.optimizer import adamw


def weights(dtype: torch.dtype) -> list[torch.Tensor]:
    """Return leaf tensors, one of which never has a gradient."""
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(4, generator=draws).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize(
    ("dtype", "fused"), [(torch.float32, True), (torch.float64, True), (torch.complex64, False)]
)
def test_steps_equal_those_of_plain_adamw(dtype: torch.dtype, fused: bool) -> None:
    ours, theirs = weights(dtype), weights(dtype)
    found = adamw(iter(ours), 0.1, 0.2)
    assert found.param_groups[0]["fused"] is fused
    plain = torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.2, foreach=False)
    before = ours[2].detach().clone()
    for _ in range(5):
        for some, optimizer in ((ours, found), (theirs, plain)):
            optimizer.zero_grad()
            sum((w.abs() ** 3).sum() for w in some[:2]).backward()
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(ours[2], before)
