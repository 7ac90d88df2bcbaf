# SPDX-License-Identifier: Apache-2.0
"""The environment on which equal bytes depend, and how it is pinned."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

# Raised by hand whenever a change to the trainer changes the weights that come out.
TRAINER_REVISION = 1

_PACKAGES = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python-headless", "pillow")
_ISA_VARIABLES = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}


def environment_variables(threads: int, isa: str) -> dict[str, str]:
    """Return the variables that pin threads and instruction set; they count only before torch is imported."""
    count = str(threads)
    pinned = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    return pinned | _ISA_VARIABLES[isa]


def fingerprint(threads: int, isa: str) -> dict[str, Any]:
    """Describe the environment; results are equal byte for byte only where it is equal."""
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except Exception:
            packages[package] = version("opencv-python") if package.startswith("opencv") else "absent"
    return {
        "trainer": TRAINER_REVISION,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        "processor": _processor() if isa == "native" else isa,
        "threads": threads,
        **packages,
    }


def _processor() -> str:
    """The instruction sets that numeric kernels choose by (not the model name: equal sets, equal kernels)."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def difference(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the entries in which two fingerprints differ, as ``name: before -> now``."""
    keys = sorted(before.keys() | now.keys())
    return [f"{k}: {before.get(k)} -> {now.get(k)}" for k in keys if before.get(k) != now.get(k)]
