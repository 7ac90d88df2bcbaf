# SPDX-License-Identifier: Apache-2.0
"""Training processes: they go on from job to job, none is left, and the compiler stays out of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from expunge.errors import ExpungeError
from expunge.exact.workers import Workers

STEP = """
import sys, torch
from expunge.exact.lean import without_compiler
if sys.argv[1] == "spared":
    without_compiler()
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=0.5)
weight.sum().backward()
optimizer.step()
assert weight.tolist() == [0.5] * 3
print("torch._dynamo.symbolic_convert" in sys.modules)
torch._dynamo.config.verbose, torch._dynamo.eval_frame  # whoever really needs it gets it
print("torch._dynamo.symbolic_convert" in sys.modules)
"""


@pytest.mark.parametrize(("how", "seen"), [("spared", "False"), ("plain", "True")])
def test_an_optimizer_steps_without_the_compiler(how: str, seen: str) -> None:
    done = subprocess.run([sys.executable, "-c", STEP, how], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [seen, "True"]


def test_a_process_that_dies_is_told_and_none_is_left() -> None:
    with Workers(1, "native") as workers:
        workers.give({"nonsense": True})
        with pytest.raises(ExpungeError, match="ended before") as caught:
            _ = [workers.event(60.0) for _ in range(3)]
    assert "left with code 1" in caught.value.why
    assert all(process.poll() is not None for process in workers._processes)
