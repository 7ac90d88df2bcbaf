# SPDX-License-Identifier: Apache-2.0
"""Cleanup of temporary replay folders, which hold copies of personal data."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from expunge.storage.files import is_running

REPLAY_PREFIX = "expunge-replay-"


def delete_abandoned_replays() -> None:
    """Delete the replay folders whose process no longer runs."""
    for folder in Path(tempfile.gettempdir()).glob(f"{REPLAY_PREFIX}*-*"):
        pid = folder.name.removeprefix(REPLAY_PREFIX).partition("-")[0]
        if pid.isdigit() and not is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
