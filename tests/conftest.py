# SPDX-License-Identifier: Apache-2.0
"""Tests run side by side, each on one thread; their signing keys lie in a folder of their own.

Nets as small as theirs are no faster on two threads, and wait for each other where cores are scarce.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # counts until torch is imported
os.environ.pop("PYTHONSAFEPATH", None)  # as in a user's shell
KEYS = tempfile.mkdtemp(prefix="expunge-test-keys-")
os.environ["EXPUNGE_KEYS"] = KEYS
os.environ["EXPUNGE_ANCHORS"] = "none"  # tests copy workspaces as they like; those of restoring name a folder
atexit.register(shutil.rmtree, KEYS, ignore_errors=True)

# The files that take longest are begun first: at the end no process waits long for the other.
LONGEST = (
    "methods/test_common.py",
    "exact/test_exactness.py",
    "pipeline/test_training.py",
    "exact/test_environment.py",
    "robust/test_killed.py",
    "robust/test_semantics.py",
    "pipeline/test_adopted.py",
    "exact/test_trainer.py",
    "requests/test_killed_runs.py",
    "bias/test_find.py",
    "unlearning/test_auditing.py",
    "robust/test_bad_input.py",
    "requests/test_life.py",
    "robust/test_raw_bytes.py",
    "pipeline/test_audits.py",
    "requests/test_machine.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; within one the order stays."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
