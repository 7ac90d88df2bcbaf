# SPDX-License-Identifier: Apache-2.0
"""Signing keys of the tests lie in a folder of their own, not among those of whoever runs them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

KEYS = tempfile.mkdtemp(prefix="expunge-test-keys-")
os.environ["EXPUNGE_KEYS"] = KEYS
os.environ["EXPUNGE_ANCHORS"] = "none"  # tests copy workspaces as they like; those of restoring name a folder
atexit.register(shutil.rmtree, KEYS, ignore_errors=True)
