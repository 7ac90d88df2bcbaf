# SPDX-License-Identifier: Apache-2.0
"""Worker processes run several jobs, end with their context, and do not import the compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import worlds
from benchmarks.inline import in_turn

from expunge.data.scan import scan
from expunge.data.types import Version
from expunge.errors import ExpungeError
from expunge.exact.graph import build_graph
from expunge.exact.planner import Options, make_plan
from expunge.exact.runner import Training, _parallel, write_weights
from expunge.exact.store import CheckpointStore
from expunge.exact.workers import Workers
from expunge.training.fingerprint import fingerprint

STEP = """
import sys, torch
from expunge.exact.compiler_stub import install_compiler_stub
if sys.argv[1] == "spared":
    install_compiler_stub()
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=0.5)
weight.sum().backward()
optimizer.step()
assert weight.tolist() == [0.5] * 3
print("torch._dynamo.symbolic_convert" in sys.modules)
torch._dynamo.config.verbose, torch._dynamo.eval_frame  # whoever really needs it gets it
print("torch._dynamo.symbolic_convert" in sys.modules)
"""


@pytest.mark.parametrize(("mode", "imported"), [("spared", "False"), ("plain", "True")])
def test_an_optimizer_steps_without_the_compiler(mode: str, imported: str) -> None:
    done = subprocess.run([sys.executable, "-c", STEP, mode], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [imported, "True"]


def test_a_failed_process_is_reported_and_all_processes_end(tmp_path: Path) -> None:
    with Workers(1, "native", tmp_path) as workers:
        workers.submit({"nonsense": True})
        with pytest.raises(ExpungeError, match="ended before") as caught:
            _ = [workers.next_event(60.0) for _ in range(3)]
    assert "left with code 1" in caught.value.why
    assert all(process.poll() is not None for process in workers._processes)


def test_one_process_runs_several_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards on one process, and on two, give the bytes of a training without worker processes."""
    found = scan(worlds.classification(tmp_path / "data").source)
    samples = [s for s in found.samples if s.split == "train"]
    version = Version(1, "shop", 1, "", found.root, found.config, 0, 0)
    options = Options(str(worlds.tiny_architecture(tmp_path, "classify")), 3, 1, 1, 32, 4)
    plan, initial = make_plan(options, version, samples, {})
    write_weights(tmp_path / "initial.weights", initial)
    chains = [list(chain) for chain in build_graph(plan, samples, {}).shards.values()]
    assert len(chains) == 3
    started: list[int] = []
    start = Workers._start
    monkeypatch.setattr(Workers, "_start", lambda self: started.append(1) or start(self))

    def trained(name: str, jobs: int, train_chains: Any) -> dict[str, str]:
        run = Training(
            plan, found.config, found.root, CheckpointStore(tmp_path / name), tmp_path / "initial.weights",
            tmp_path, fingerprint(plan.threads, plan.isa), jobs=jobs,
        )  # fmt: skip
        with Workers(plan.threads, plan.isa, tmp_path) as workers:
            done = train_chains(chains, run, workers, lambda chain: run.initial)
        return {finished.node.key: finished.digest for finished in done}

    slow = trained("inline", 1, in_turn)
    assert len(set(slow.values())) == 3
    assert started == []
    assert trained("one", 1, _parallel) == slow
    assert started == [1]
    assert trained("two", 2, _parallel) == slow
    assert started == [1, 1, 1]
