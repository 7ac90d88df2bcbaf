# SPDX-License-Identifier: Apache-2.0
"""Copies of people's data that killed replays left in the temporary folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from expunge.exact.checkpoint import running

PREFIX = "expunge-replay-"


def sweep() -> None:
    """Delete the folders of replays whose command is gone."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
