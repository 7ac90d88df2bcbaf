# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates: milliseconds to hash a picture; seconds and memory to pair a million hashes.

    python -m benchmarks duplicates --out benchmarks/results/duplicates.json

Pictures are JPEG files of 640×480 with texture. Hashes are random, with planted pairs at every distance up to
the one asked for; each planted pair must be found, or the benchmark fails. Memory is the peak of the process
over what it held before pairing.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from expunge import processes
from expunge.data.hamming import near_pairs
from expunge.data.phash import hash_picture

ROOT = Path(__file__).resolve().parents[1]


def peak_mib() -> float:
    """The most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def hashing(count: int) -> dict[str, Any]:
    """Hash pictures, one thread."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(20):
        small = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    began = time.process_time()
    for i in range(count):
        hash_picture(files[i % len(files)])
    seconds = time.process_time() - began
    size = sum(map(len, files)) / len(files)
    return {
        "pictures": count,
        "cpu_ms_a_picture": round(1000 * seconds / count, 2),
        "kb_a_picture": round(size / 1e3),
    }


def pairing(count: int, distance: int, planted: int) -> dict[str, Any]:
    """Pair random hashes with planted pairs."""
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    places = rng.permutation(count)[: 2 * planted].reshape(planted, 2)
    for number, (a, b) in enumerate(places):
        value = int(hashes[a])
        for bit in rng.choice(64, number % (distance + 1), replace=False):
            value ^= 1 << int(bit)
        hashes[b] = value
    wanted = {(int(min(p)), int(max(p))) for p in places}
    before = peak_mib()
    began, cpu = time.perf_counter(), time.process_time()
    found: set[tuple[int, int]] = set()
    for i, j, _ in near_pairs(hashes, distance):
        found.update(zip(i.tolist(), j.tolist(), strict=True))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if missed := wanted - found:
        raise SystemExit(f"{len(missed)} planted pairs were missed")
    return {
        "hashes": count,
        "distance": distance,
        "planted": planted,
        "found": len(found),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mib_over_start": round(peak_mib() - before),
    }


def main() -> None:
    """Measure, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairing", type=int, nargs=2, help="pair so many hashes at a distance; print JSON")
    arguments = parser.parse_args()
    if arguments.pairing:
        print(json.dumps(pairing(*arguments.pairing, 1000)))
        return
    count = 50_000 if arguments.quick else 1_000_000
    result: dict[str, Any] = {"hashing": hashing(100 if arguments.quick else 1000), "pairing": []}
    print(result["hashing"], flush=True)
    for distance in (3, 7):
        words = ("--pairing", str(count), str(distance))
        # In a process of its own, so that each has its own peak.
        done = processes.run("benchmarks.duplicates", *words, paths=[ROOT], stdout=processes.PIPE, text=True)
        done.check_returncode()
        result["pairing"].append(json.loads(done.stdout))
        print(result["pairing"][-1], flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
