# SPDX-License-Identifier: Apache-2.0
"""Files that are not images, after importing Ultralytics, whose patches make Pillow raise other errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

BEGIN = """
import ultralytics.engine.predictor, ultralytics.utils.patches, io, json, sys
from pathlib import Path
from PIL import Image
folder = Path(sys.argv[1])
def name_of(work):
    try:
        return work()
    except Exception as error:
        return type(error).__name__
"""
CODE = """
from expunge.data.thumbnail import thumbnail
from expunge.data.phash import grey
from expunge.data.scan import scan
from expunge.evidence.report_page import _pictures
from expunge.tasks.images import decode
bad = (folder / "train" / "a" / "bad.png")
found = {
    "pillow": name_of(lambda: Image.open(bad)),
    "report": name_of(lambda: len(list(_pictures(sorted(folder.rglob("*.png")))))),
    "sheet": name_of(lambda: thumbnail(bad, 32)),
    "hash": name_of(lambda: grey(bad.read_bytes(), 8)),
    "decode": name_of(lambda: decode(bad.read_bytes(), "bad.png")),
}
try:
    scan(folder)
except Exception as error:
    found |= {"scan": type(error).__name__, "why": error.why}
print(json.dumps(found))
"""


def test_decoders_raise_only_bad_picture(tmp_path: Path) -> None:
    for path in ("train/a/good.png", "val/a/good.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        Image.new("RGB", (40, 40), "red").save(tmp_path / path)
    (tmp_path / "train" / "a" / "bad.png").write_bytes(b"\0\0\0\x18ftypheic no picture at all")
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + CODE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "config")},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("pillow") not in ("OSError", "UnidentifiedImageError"), "else nothing is shown here"
    why = found.pop("why")
    assert found == {
        "report": 2, "sheet": None, "hash": "NotAnImage", "decode": "InputError", "scan": "InputError",
    }  # fmt: skip
    assert "not an image that can be decoded" in why
