# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of the lineage of one subject among a million samples and 100,000 subjects.

    python -m benchmarks scope --out benchmarks/results/scope.json

The command is the real one (`expunge data show big --subject ID --json`), in a process of its own, timed from
outside. The dataset is the list alone, ten samples a subject; four versions of an erasable model (made-up
weights and checkpoints, a real plan) and an export are on record.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from expunge import processes
from expunge.catalog import derivatives, model_store
from expunge.catalog.dataset_store import add_version, get_version
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.exact.model import plan_file
from expunge.exact.planner import Options, make_plan
from expunge.models.lineage import lineage
from expunge.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]

PER_SUBJECT = 10


def build(folder: Path, rows: int) -> Workspace:
    """Make a workspace with a dataset of that many rows, a model and an export of it."""
    workspace = Workspace.init(folder)
    subjects = rows // PER_SUBJECT
    samples = tuple(
        Sample(
            f"images/{i % 1000:03d}/{i:07d}.jpg",
            "val" if i % 50 == 49 else "train",
            f"{i:064x}",
            subjects=(f"s{i % subjects:06d}",),
        )
        for i in range(rows)
    )
    ordered = tuple(sorted(samples, key=lambda s: s.path))
    with workspace.session(write=True) as session:
        add_version(
            session, "big", Scan(folder, DatasetConfig("yolo", ("face",)), ordered), key=workspace.key
        )
    add_models(workspace, ordered)
    return workspace


def add_models(workspace: Workspace, samples: tuple[Sample, ...]) -> None:
    """Publish four versions of a model with made-up checkpoints, and an export of the last."""
    with workspace.session() as session:
        version = get_version(session, "big")
    options = Options("yolo26n.yaml", shards=8, slices=4, epochs=8, imgsz=640)
    plan, _ = make_plan(options, version, list(samples[:1000]), {})
    plan.save(plan_file(workspace, plan.digest))
    with workspace.session(write=True) as session:
        model_id = model_store.ensure_model(session, "m", plan.task)
        model_store.record_plan(session, plan.digest, str(plan_file(workspace, plan.digest)))
        for shard in range(8):
            for stage in range(1, 5):
                model_store.record_checkpoint(
                    session, key=f"{shard}-{stage}", model_id=model_id, phase="shard", shard=shard,
                    stage=stage, path="", size_bytes=0, digest="", fingerprint={}, cpu_seconds=1.0, images=1,
                )  # fmt: skip
        stages = {"stages": {str(s): 4 for s in range(8)}, "polish": False, "public": False}
        for number in range(1, 5):
            model_store.publish(
                session, model_id, number=number, parent=None, dataset_id=version.dataset_id,
                dataset_version=1, retained_digest="", samples=version.samples, subjects=version.subjects,
                plan_digest=plan.digest, method="train", guarantee="exact", state="current",
                digest=f"sha256:{number}", weights=f"models/m/m-{number}.pt", composition=stages,
                metrics=None, cost=None, cpu_seconds=1.0, request_id=None,
            )  # fmt: skip
        derivatives.add_model_export(
            session, ["0" * 64], model_version_id=model_store.find_model(session, "m").id, format="onnx",
            path="m.onnx", size_bytes=1, images=8, difference=0.0, tolerance=1e-3,
        )  # fmt: skip


def measure(workspace: Workspace, subject: str) -> dict[str, Any]:
    """Ask once, in a process of its own; returns seconds, CPU seconds and peak MiB.

    Bytecode is cached, as it is wherever a package was installed and used once.
    """
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(workspace.root.parent / "bytecode")
    command = ["data", "show", "big", "--subject", subject, "--json", "--workspace", str(workspace.root)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = processes.run(
        "benchmarks.measured_command", *command, environ=env, paths=[ROOT], capture_output=True, text=True
    )
    done.check_returncode()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout)
    if len(found["samples"]) != PER_SUBJECT or len(found["models"]) != 4 or not found["models"][3]["exports"]:
        raise RuntimeError("the answer is not what was put in")
    peak = int(done.stderr.split("peak_kib")[1].split()[0])
    return {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "peak_mib": round(peak / 1024, 1)}


def main() -> None:
    """Measure, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    arguments = parser.parse_args()
    rows = 20_000 if arguments.quick else arguments.rows
    folder = Path(tempfile.mkdtemp(prefix="expunge-bench-"))
    try:
        began = time.perf_counter()
        workspace = build(folder, rows)
        built = time.perf_counter() - began
        subjects = rows // PER_SUBJECT
        people = [f"s{k * subjects // arguments.repeats:06d}" for k in range(arguments.repeats)]
        measure(workspace, people[0])  # writes the bytecode
        runs = [measure(workspace, who) for who in people]
        began = time.perf_counter()
        lineage(workspace, "big", people[-1])
        inside = time.perf_counter() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "samples": rows,
        "subjects": subjects,
        "build_seconds": round(built, 1),
        "seconds": [r["seconds"] for r in runs],
        "median_seconds": statistics.median(r["seconds"] for r in runs),
        "median_cpu_seconds": statistics.median(r["cpu_seconds"] for r in runs),
        "answer_alone_seconds": round(inside, 3),
        "peak_mib": max(r["peak_mib"] for r in runs),
    }
    print(json.dumps(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
