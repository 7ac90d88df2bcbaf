# SPDX-License-Identifier: Apache-2.0
"""Seconds from the command to the published interim model, against the size of the data and of the model.

    python -m benchmarks.interim --out benchmarks/results/interim.json

The command is the real one, in a process of its own, and its time is measured from outside: from the start
of the process to the moment at which the catalog names the interim model. Only the checkpoints are made up
(random weights of the real architecture): how a shard was trained does not matter to how fast it is merged.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from expunge import processes
from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version, get_version, load_samples
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.exact.composition import complete_composition
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.planner import Options, make_plan
from expunge.exact.runner import write_weights
from expunge.progress import Progress
from expunge.training.checkpoint import State, save_state
from expunge.workspace import Workspace

PER_SUBJECT = 10


def build(folder: Path, images: int, weights: str, shards: int, slices: int) -> Workspace:
    """Make a workspace with a dataset of that many rows and a model whose checkpoints are all there."""
    workspace = Workspace.init(folder)
    samples = tuple(
        Sample(
            f"images/train/{i:07d}.jpg", "train", f"{i:064x}", f"{i:064x}", None, (f"s{i // PER_SUBJECT}",)
        )
        for i in range(images)
    )
    scan = Scan(folder, DatasetConfig("yolo", ("face",)), samples)
    with workspace.session(write=True) as session:
        add_version(session, "shop", scan, key=workspace.key)
    with workspace.session() as session:
        version = get_version(session, "shop")
        rows = load_samples(session, version)
    options = Options(weights, shards=shards, slices=slices, epochs=10, imgsz=640)
    plan, initial = make_plan(options, version, rows, {})
    model = ErasableModel(workspace, "m", plan, version, rows, {}, Progress(quiet=True))
    write_weights(model.initial, initial)
    plan.save(plan_file(workspace, plan.digest))
    with workspace.session(write=True) as session:
        model_id = model_store.ensure_model(session, "m", plan.task)
        model_store.record_plan(session, plan.digest, str(plan_file(workspace, plan.digest)))
    moments = {f"{i}.{name}": v.clone() for i, v in enumerate(initial.values()) for name in ("exp_avg", "sq")}
    for node in model.graph.nodes:
        save_state(model.store.path(node.key), State(initial, initial, moments), {})
        with workspace.session(write=True) as session:
            model_store.record_checkpoint(
                session, key=node.key, model_id=model_id, phase=node.phase, shard=node.shard,
                stage=node.stage, path="", size_bytes=0, digest="", fingerprint=model.fingerprint,
                cpu_seconds=1.0, images=node.passes,
            )  # fmt: skip
    whole = complete_composition(model.graph)
    model.publish(
        model_id, whole, model.weights(whole), parent=None, method="train", guarantee="exact",
        state="current", metrics=None, cost=None, cpu_seconds=1.0, request_id=None,
    )  # fmt: skip
    return workspace


def measure(workspace: Workspace, subject: str) -> float:
    """Run ``forget --defer`` and return the seconds until the catalog names the interim model."""
    query = "SELECT count(*) AS n FROM model_version"
    before = workspace.query(query)[0]["n"]
    began = time.perf_counter()
    process = processes.start(
        "expunge", "forget", "--subject", subject, "--defer", "--yes", "--json",
        folder=workspace.root.parent, stdout=processes.DEVNULL, stderr=processes.DEVNULL,
    )  # fmt: skip
    while workspace.query(query)[0]["n"] == before:
        if process.poll() is not None:
            raise RuntimeError("the command ended without an interim model")
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    process.wait()
    return seconds


def answer_times(folder: Path) -> dict[str, float]:
    """Median seconds of the commands that must answer at once."""
    times = {}
    for command in (["--help"], ["models"], ["forget", "--help"]):
        runs = []
        for _ in range(5):
            began = time.perf_counter()
            processes.run("expunge", *command, folder=folder, capture_output=True)
            runs.append(time.perf_counter() - began)
        times[" ".join(command)] = round(statistics.median(runs), 3)
    return times


def main() -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    cases = [(n, "yolo26n.yaml") for n in (100, 1_000, 10_000, 100_000)] + [
        (1_000, "yolo26s.yaml"),
        (1_000, "yolo26m.yaml"),
    ]
    rows = []
    for images, weights in cases[:2] if arguments.quick else cases:
        folder = Path(tempfile.mkdtemp(prefix="expunge-bench-"))
        try:
            workspace = build(folder, images, weights, 4, 4)
            seconds = [measure(workspace, f"s{k}") for k in range(arguments.repeats)]
            rows.append({"images": images, "weights": weights, "seconds": [round(s, 2) for s in seconds]})
            if images == 1_000 and weights == "yolo26n.yaml":
                answers = answer_times(folder)
            print(f"{images:>8} images  {weights:<14} {statistics.median(seconds):6.2f} s", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(answers)
    if arguments.out:
        arguments.out.write_text(json.dumps({"interim": rows, "answers_seconds": answers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
