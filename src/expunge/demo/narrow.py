# SPDX-License-Identifier: Apache-2.0
"""A narrower YOLO26 for the quick demo: the architecture of Ultralytics with a smaller width multiple."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import yaml

from expunge.errors import InputError

NAME = "yolo26n-narrow.yaml"
WIDTH = 0.125
"""Width multiple; YOLO26n has 0.25."""


def write(folder: Path) -> str:
    """Write the architecture into ``folder`` and return its file name."""
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise InputError("The demo needs the package ultralytics.", "It is not installed.")
    source = Path(spec.origin).parent / "cfg" / "models" / "26" / "yolo26.yaml"
    architecture = yaml.safe_load(source.read_text(encoding="utf-8"))
    depth, _, most = architecture["scales"]["n"]
    architecture["scales"] = {"n": [depth, WIDTH, most]}
    (folder / NAME).write_text(yaml.safe_dump(architecture, sort_keys=False), encoding="utf-8")
    return NAME
