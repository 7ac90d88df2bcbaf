# SPDX-License-Identifier: Apache-2.0
"""Environment fingerprints: the settings and libraries on which byte-identical results depend."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from expunge.errors import EnvironmentChanged

# Increase it by hand when a change to the trainer changes the trained weights.
TRAINER_REVISION = 1

_PACKAGES = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python-headless", "pillow")
_ISA_VARIABLES = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}

# Prefixes of variables that select numeric kernels or shared libraries.
_PREFIXES = (
    "ATEN_", "BLIS_", "DNNL_", "GLIBC_TUNABLES", "GOTO_", "JSIMD_", "KMP_", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "MKL_", "NPY_", "OMP_", "ONEDNN_", "OPENBLAS_", "OPENCV_", "TORCH_",
)  # fmt: skip
_NUMERIC_FLAGS = ("amx", "asimd", "avx", "bf16", "f16c", "fma", "neon", "sse", "ssse", "sve", "vnni")
NAMED = ("cpu", "cpu_flags", "libc", "variables", "builds")
MEASURED = "measured"


def environment_variables(threads: int, isa: str) -> dict[str, str]:
    """Return the variables that pin the number of threads and the instruction set.

    They take effect only if they are set before torch is imported.
    """
    count = str(threads)
    pinned = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    return pinned | _ISA_VARIABLES[isa]


def fingerprint(threads: int, isa: str) -> dict[str, Any]:
    """Return the environment's fingerprint: results are byte-identical only where it is equal."""
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


def environment_details(threads: int, isa: str) -> dict[str, Any]:
    """Return environment details that may, but need not, change the arithmetic.

    These are the processor, variables and library builds. Where only these differ, the arithmetic is measured
    (see :mod:`expunge.exact.probe`).
    """
    variables = {**os.environ, **environment_variables(threads, isa)}
    model, flags = _cpu()
    return {
        "cpu": model,
        "cpu_flags": " ".join(sorted(flag for flag in flags if flag.startswith(_NUMERIC_FLAGS))),
        "libc": " ".join(platform.libc_ver()),
        "variables": {name: variables[name] for name in sorted(variables) if name.startswith(_PREFIXES)},
        "builds": {package: _build(package) for package in _PACKAGES},
    }


def _cpu() -> tuple[str, list[str]]:
    """Return the processor's model name and its feature flags, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor(), []
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features", ""))
    return fields.get("model name", platform.processor()), flags.split()


def _build(package: str) -> str:
    """Return a digest of an installed package's shared libraries, taken from its ``RECORD`` file."""
    try:
        record = distribution(package).read_text("RECORD") or ""
    except PackageNotFoundError:
        return _build("opencv-python") if package == "opencv-python-headless" else "absent"
    kinds = (".so", ".dylib", ".pyd", ".dll")
    libraries = sorted(line for line in record.splitlines() if any(kind in line for kind in kinds))
    return hashlib.sha256("\n".join(libraries).encode()).hexdigest()[:16]


def _processor() -> str:
    """Return the instruction set by which numeric kernels are chosen; equal sets use equal kernels."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def certain_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the entries that certainly change the arithmetic, as ``name: before -> now``."""
    keys = sorted((before.keys() | now.keys()) - {*NAMED, MEASURED})
    return [f"{k}: {before.get(k)} -> {now.get(k)}" for k in keys if before.get(k) != now.get(k)]


def possible_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the entries that may change the arithmetic, as ``name: before -> now``."""
    changes = []
    for key in NAMED:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
            changes += [f"{name}: {old.get(name, 'unset')} -> {new.get(name, 'unset')}" for name in names]
        elif old != new:
            changes.append(f"{key}: {old} -> {new}")
    return changes


def environment_changed(name: str, what: list[str]) -> EnvironmentChanged:
    """Return the error for checkpoints that were made in another environment.

    Args:
        name: Name of the model.
        what: The differences, one per entry.
    """
    return EnvironmentChanged(
        f"The checkpoints of {name!r} were made in another environment.",
        f"What differs: {'; '.join(what)}. Equal bytes cannot be promised across this.",
        "Run it in the old environment, or retrain all shards in this one: --method retrain.",
    )


def measured_difference(before: str, now: str) -> str:
    """Return the difference between two measured digests, in the form used by :func:`certain_differences`."""
    return f"results of a fixed small training: {before[:12]} -> {now[:12]}"
