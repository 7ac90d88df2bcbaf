# SPDX-License-Identifier: Apache-2.0
"""Tests run side by side, each on one thread; their signing keys lie in a folder of their own.

Nets as small as theirs are no faster on two threads, and wait for each other where cores are scarce.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # counts until torch is imported
os.environ.pop("PYTHONSAFEPATH", None)  # as in a user's shell
KEYS = tempfile.mkdtemp(prefix="expunge-test-keys-")
os.environ["EXPUNGE_KEYS"] = KEYS
os.environ["EXPUNGE_ANCHORS"] = "none"  # tests copy workspaces as they like; those of restoring name a folder
atexit.register(shutil.rmtree, KEYS, ignore_errors=True)
