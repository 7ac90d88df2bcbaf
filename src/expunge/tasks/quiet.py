# SPDX-License-Identifier: AGPL-3.0-or-later
"""Importing Ultralytics silently: no network, no telemetry, no installs, a settings folder of our own."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import ModuleType


def settings_folder() -> Path:
    """The folder in which Ultralytics may keep its settings, apart from the user's own."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "expunge" / "ultralytics"


def environment() -> dict[str, str]:
    """The variables that keep Ultralytics quiet; they count before its first import."""
    return {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": str(settings_folder()),
        "ULTRALYTICS_SAFE_LOAD": "true",
    }


def load_ultralytics() -> ModuleType:
    """Import Ultralytics with telemetry off; variables that the user has set stay as they are."""
    for name, value in environment().items():
        os.environ.setdefault(name, value)
    folder = Path(os.environ["YOLO_CONFIG_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    import ultralytics
    from ultralytics.utils import LOGGER, SETTINGS

    LOGGER.setLevel(logging.ERROR)
    if SETTINGS.get("sync"):
        dict.__setitem__(SETTINGS, "sync", False)  # in memory: the user's settings file is theirs
    return ultralytics
