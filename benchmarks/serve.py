# SPDX-License-Identifier: Apache-2.0
"""Milliseconds of the desk's pages and API for 20 people at once, while an unlearning job runs.

    python -m benchmarks serve --out benchmarks/results/serve.json

The server is the real command in a process of its own, and the job a real erasure by a worker: a small
YOLO26n-cls, trained erasable here, trains again what saw a person. The queue holds 10,000 requests. Twenty
clients, a thread, a connection and a session's cookie each, read what the API and the pages show: the queue
from its beginning and further down, requests, models, jobs, the log, with a second between an answer and the
next question, as people do. ``idle`` is before the job, ``while_unlearning`` during it; ``without_pause``
too, but without the second: how many answers a second there are at most, and how long each then waits for
the others.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from sqlalchemy import insert

from expunge import processes
from expunge.catalog.dataset_store import add_version, get_version
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.evidence import journal
from expunge.web.auth import accounts, sessions
from expunge.web.auth.roles import Role
from expunge.web.queries import queue
from expunge.web.settings import ServerSettings
from expunge.workspace import Workspace

API = "/api/v1"
CLIENTS, PEOPLE, EACH = 20, 24, 10


def pictures(root: Path) -> None:
    """Draw a small classification set: two classes of noise, 24 people with ten pictures each."""
    rng = np.random.default_rng(0)
    for who in range(PEOPLE):
        for k in range(EACH):
            split = "val" if k == 0 else "train"
            file = root / split / ("dark", "light")[k % 2] / f"p{who}-{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            low = 0 if k % 2 == 0 else 120
            Image.fromarray(rng.integers(low, low + 130, (64, 64, 3), dtype=np.uint8)).save(file)


def expunge(workspace: Workspace, *words: str) -> dict[str, Any]:
    """Run a command; returns what it prints as JSON."""
    words = (*words, "--workspace", str(workspace.root), "--json")
    done = processes.run("expunge", *words, capture_output=True, text=True)
    done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def fill(workspace: Workspace, count: int) -> list[str]:
    """Put requests in the queue, each of one of so many people of a list without files; returns their ids."""
    samples = tuple(
        Sample(f"train/{i:06d}.png", "train", f"{i:064x}", f"{i:064x}", None, (f"s{i}",))
        for i in range(count)
    )
    scan = Scan(workspace.root.parent, DatasetConfig("yolo", ("face",)), samples)
    at = workspace.clock()
    with workspace.session(write=True) as session:
        add_version(session, "list", scan, key=workspace.key)
    ids = [f"r-{i:016x}" for i in range(count)]
    with workspace.session(write=True) as session:
        dataset_id = get_version(session, "list").dataset_id
        rows = [
            {
                "id": name,
                "dataset_id": dataset_id,
                "state": "scoped",
                "method": "auto",
                "selection": {
                    "samples": 1, "subjects": 1, "models": [], "defer": False, "class": None, "settings": {},
                    "asked": {
                        "subjects": [f"s{i}"], "samples": [], "listed": [], "models": [], "class": None,
                        "dataset": "list", "delete_originals": False,
                    },
                },
                "version_before": 1,
                "received": at - timedelta(minutes=3 * i),
                "due": at + timedelta(days=30) - timedelta(minutes=3 * i),
                "opened_by": "bench",
            }
            for i, name in enumerate(ids)
        ]  # fmt: skip
        session.execute(insert(RequestRow), rows)
        steps = ((None, "open"), ("open", "scoped"))
        events = [
            {"request_id": name, "source": source, "target": target, "at": at, "actor": "bench"}
            for name in ids
            for source, target in steps
        ]
        session.execute(insert(RequestEventRow), events)
    journal.flush(workspace)  # else the first who files a request would wait until the log has all of them
    return ids


@contextmanager
def serving(workspace: Workspace) -> Iterator[tuple[str, int]]:
    """Run the server; gives its address and process."""
    words = ("serve", "--port", "0", "--workspace", str(workspace.root))
    server = processes.start("expunge", *words, stderr=processes.PIPE, text=True)
    assert server.stderr is not None
    try:
        yield server.stderr.readline().split()[-1], server.pid
    finally:
        server.terminate()
        server.wait(60)


def paths(workspace: Workspace, ids: list[str]) -> list[tuple[str, str]]:
    """What is read, each with its name in the result: the API, and the pages that people look at most."""
    some = random.Random(0).sample(ids, 5)
    later = [queue(workspace, limit=len(ids) * share // 100).next for share in (10, 50, 90)]
    return [
        (f"{API}/requests", f"{API}/requests"),
        *((f"{API}/requests, a later page", f"{API}/requests?cursor={cursor}") for cursor in later),
        (f"{API}/requests/counts", f"{API}/requests/counts"),
        *((f"{API}/requests/{{id}}", f"{API}/requests/{name}") for name in some),
        (f"{API}/models", f"{API}/models"),
        (f"{API}/jobs", f"{API}/jobs"),
        (f"{API}/log", f"{API}/log"),
        ("/requests", "/requests"),
        *(("/requests, a later page", f"/requests?cursor={cursor}") for cursor in later),
        *(("/requests/{id}", f"/requests/{name}") for name in some),
        ("/models", "/models"),
        ("/models/{name}", "/models/m"),
        ("/log", "/log"),
    ]


def read(
    address: str, secret: str, chosen: list[tuple[str, str]], seconds: float, pause: float, number: int
) -> list[tuple[str, float]]:
    """Read in turn, as one client with a cookie; returns what took how many milliseconds."""
    found, dice = [], random.Random(number)
    cookies = {"expunge_session": secret}
    # There is no TLS to verify; to load the authorities' certificates takes the time of many answers.
    with httpx.Client(base_url=address, cookies=cookies, timeout=60, verify=False) as client:
        until = time.monotonic() + seconds
        time.sleep(dice.random() * pause)  # they do not all come at once
        while time.monotonic() < until:
            name, path = dice.choice(chosen)
            began = time.perf_counter()
            answer = client.get(path)
            found.append((name, 1000 * (time.perf_counter() - began)))
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answered {answer.status_code}")
            time.sleep(pause)
    return found


def cpu_seconds(process: int) -> float:
    """CPU time that a process has taken: what other work on the machine hardly changes."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def together(
    server: tuple[str, int], secret: str, chosen: list[tuple[str, str]], seconds: float, pause: float
) -> dict[str, Any]:
    """Twenty clients at once; returns medians and 95 % points in milliseconds."""
    address, process = server
    began, before = time.monotonic(), cpu_seconds(process)
    with ThreadPoolExecutor(CLIENTS) as clients:
        # A client that is refused ends the benchmark: figures of the others are none.
        results = list(clients.map(partial(read, address, secret, chosen, seconds, pause), range(CLIENTS)))
    spent, cpu = time.monotonic() - began, cpu_seconds(process) - before
    times = [entry for result in results for entry in result]
    by_path: dict[str, list[float]] = {}
    for name, taken in times:
        by_path.setdefault(name, []).append(taken)
    kinds = {
        "api": [taken for name, taken in times if name.startswith(API)],
        "pages": [taken for name, taken in times if not name.startswith(API)],
    }
    return {
        "clients": CLIENTS,
        "pause_seconds": pause,
        "answers": len(times),
        "answers_per_second": round(len(times) / spent, 1),
        "server_cpu_ms_each": round(1000 * cpu / len(times), 1),
        "load_average": round(os.getloadavg()[0], 1),
        **points([taken for _, taken in times]),
        **{kind: {"n": len(taken), **points(taken)} for kind, taken in kinds.items() if taken},
        "by_path": {path: {"n": len(v), **points(v)} for path, v in sorted(by_path.items())},
    }


def points(values: list[float]) -> dict[str, float]:
    """Median and 95 % point."""
    ordered = sorted(values)
    return {
        "median_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
    }


def main() -> None:
    """Measure, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=40, help="the job must outlast the reading")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--quick", action="store_true", help="500 requests, a short training")
    arguments = parser.parse_args()
    count, epochs, seconds = arguments.requests, arguments.epochs, arguments.seconds
    if arguments.quick:
        count, epochs, seconds = 500, 8, 5.0
    folder = Path(tempfile.mkdtemp(prefix="expunge-bench-"))
    try:
        workspace = Workspace.init(folder)
        pictures(folder / "faces")
        expunge(
            workspace,
            "data",
            "add",
            "faces",
            str(folder / "faces"),
            "--subject-from-path",
            r"(p\d+)-\d+\.png$",
        )
        expunge(
            workspace, "train", "faces", "--name", "m", "--weights", "yolo26n-cls.yaml", "--shards", "2",
            "--slices", "1", "--epochs", str(epochs), "--imgsz", "64",
        )  # fmt: skip
        ids = fill(workspace, count)
        admin = accounts.create(workspace, "bench", Role.ADMIN, "a password for a benchmark")
        signed = sessions.begin(workspace, ServerSettings(), admin)
        chosen = paths(workspace, ids)
        result: dict[str, Any] = {"requests": count}
        with serving(workspace) as server:
            headers = {"X-CSRF-Token": signed.csrf}
            desk = httpx.Client(
                base_url=server[0] + API,
                headers=headers,
                cookies={"expunge_session": signed.secret},
                timeout=60,
            )
            desk.get("/requests").raise_for_status()
            result["idle"] = together(server, signed.secret, chosen, seconds, 1.0)
            filed = desk.post("/requests", json={"subjects": ["p3"], "dataset": "faces"}).raise_for_status()
            request = filed.json()["request"]
            desk.post(f"/requests/{request}/approve").raise_for_status()
            job = desk.post(f"/requests/{request}/run").raise_for_status().json()["id"]
            while not (desk.get(f"/jobs/{job}").json()["progress"] or {}).get("done"):
                time.sleep(0.5)  # until it trains
            result["while_unlearning"] = together(server, signed.secret, chosen, seconds, 1.0)
            result["without_pause"] = together(server, signed.secret, chosen, seconds / 3, 0.0)
            result["job_outlasted_it"] = desk.get(f"/jobs/{job}").json()["state"] == "running"
            while desk.get(f"/jobs/{job}").json()["state"] == "running":
                time.sleep(1.0)
            done = desk.get(f"/jobs/{job}").json()
            result["job"] = {"state": done["state"], "models": done["result"]["requests"][0]["models"]}
            desk.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
