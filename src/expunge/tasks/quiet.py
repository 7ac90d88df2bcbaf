# SPDX-License-Identifier: AGPL-3.0-or-later
"""Import of Ultralytics without network, telemetry, installs, or changes to the user's settings."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import ModuleType


def settings_folder() -> Path:
    """Return the folder of Ultralytics' settings, separate from the user's own."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "expunge" / "ultralytics"


def environment() -> dict[str, str]:
    """Return the variables that disable Ultralytics' side effects; set them before its first import."""
    return {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": str(settings_folder()),
        "ULTRALYTICS_SAFE_LOAD": "true",
    }


def load_ultralytics() -> ModuleType:
    """Import Ultralytics with telemetry off; variables that the user has set are not changed."""
    for name, value in environment().items():
        os.environ.setdefault(name, value)
    folder = Path(os.environ["YOLO_CONFIG_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    import ultralytics
    from ultralytics.utils import LOGGER, SETTINGS

    LOGGER.setLevel(logging.ERROR)
    if SETTINGS.get("sync"):
        dict.__setitem__(SETTINGS, "sync", False)  # in memory only: the user's settings file stays unchanged
    return ultralytics
