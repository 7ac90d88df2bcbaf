# SPDX-License-Identifier: AGPL-3.0-or-later
"""File checks, compared with reading the files as a training would."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expunge.data.labels import label_path
from expunge.data.types import DatasetConfig, Sample
from expunge.tasks.file_checks import check_files
from expunge.tasks.quiet import load_ultralytics

File = tuple[bytes | None, bytes | None, str | None, str | None]
CONFIG = DatasetConfig("yolo", ("a", "b"))


def picture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(out, "PNG")
    return out.getvalue()


PICTURE, LABEL = picture(), b"0 0.5 0.5 0.2 0.2\n"
images = st.sampled_from([PICTURE, PICTURE + b"\0", PICTURE[:60], b"", b"no picture", None])
rows = [
    "0 0.5 0.5 0.2 0.2",
    "1 0.5 0.5 0.1 0.1",
    "2 0.5 0.5 0.2 0.2",
    "0 1.07 0.5 0.2 0.2",
    "0 x",
    "\xff",
    "",
]
labels = st.one_of(st.none(), st.lists(st.sampled_from(rows), max_size=3).map("\n".join))


def usable(root: Path, sample: Sample) -> bool:
    """Return whether a data set of this one sample can be created and read."""
    load_ultralytics()
    from ultralytics.cfg import get_cfg

    from expunge.tasks.boxes_data import BoxDataset

    try:
        data = BoxDataset(root, CONFIG, [sample], CONFIG.names, get_cfg(overrides={"imgsz": 32}), 32, False)
        data.load_image(0)
    except Exception:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(images, images, labels, labels), min_size=1, max_size=4))
def test_files_that_a_training_could_not_use_are_damaged(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[bytes | None, bytes | None, str | None, str | None]],
) -> None:
    """Files that differ from the record, are missing, or cannot be read are damaged."""
    root = tmp_path_factory.mktemp("files")
    samples = []
    for i, (recorded, now, label, label_now) in enumerate(files):
        path = f"images/{i}.png"
        recorded_digest = hashlib.sha256(recorded or PICTURE).hexdigest()
        label_digest = "" if label is None else hashlib.sha256(label.encode("latin-1")).hexdigest()
        samples.append(Sample(path, "val", recorded_digest, label_digest))
        for name, content in (
            (path, now),
            (label_path(path), None if label_now is None else label_now.encode("latin-1")),
        ):
            (root / name).parent.mkdir(exist_ok=True)
            if content is not None:
                (root / name).write_bytes(content)
    checked = check_files(root, CONFIG, samples)
    assert list(checked.readable) == [s for s in samples if usable(root, s)]
    left = {s.path for s in samples} - {s.path for s in checked.readable}
    assert {d.path for d in checked.damaged} == left
    assert all(d.path in d.reason for d in checked.damaged)
    assert {d.path for d in checked.damaged if d.gone} == {p for p in left if not (root / p).exists()}
