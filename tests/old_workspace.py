# SPDX-License-Identifier: Apache-2.0
"""Makes the workspace of an older version that ``test_old_workspace.py`` opens: ``old_workspace.tar.xz``.

Run once, with the code of 2026-11-30 (catalog revision 0010): ``python tests/old_workspace.py FOLDER``.
The archive holds data, workspace and keys: a classifier with an erasure that is done, one that waits for its
repair, and one that is approved.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import worlds

ARCHIVE = Path(__file__).with_name("old_workspace.tar.xz")
COMMANDS = (
    "init .",
    "data add shop data --subjects data/subjects.csv --public data/public.txt",
    "train shop --name m --weights tiny26n-cls.yaml --shards 2 --slices 2 --epochs 2 --imgsz 32 --batch 4",
    "forget --subject p1 --yes --delete-originals",
    "forget --subject p2 --yes --defer",
    "request open --subject p3 --dataset shop",
)


def main() -> None:
    """Make it."""
    folder = Path(sys.argv[1])
    world = worlds.classification(folder / "data")
    world.tables()
    worlds.tiny_architecture(folder, "classify")
    environ = {**os.environ, "EXPUNGE_KEYS": str(folder / "keys"), "EXPUNGE_ANCHORS": "none"}
    for line in COMMANDS:
        subprocess.run([sys.executable, "-m", "expunge", *line.split()], cwd=folder, env=environ, check=True)
    with tarfile.open(ARCHIVE, "w:xz") as archive:
        for part in ("data", ".expunge", "keys"):
            archive.add(folder / part, part)


if __name__ == "__main__":
    main()
