# SPDX-License-Identifier: Apache-2.0
"""The demo's story through the real command line, on made-up faces and as small as it gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expunge.demo.scenes import Cast
from expunge.demo.settings import Settings
from expunge.demo.story import Services, Story


class MadeUp:
    """People of noise."""

    def read(self, person: str, number: int) -> Image.Image:
        rng = np.random.default_rng([int(person.removeprefix("s")), number])
        return Image.fromarray(rng.integers(60, 250, (112, 92), dtype=np.uint8))


@pytest.mark.slow
def test_the_real_story_ends_in_a_proof(tmp_path: Path) -> None:
    cast = Cast(
        public=("s1",),
        private=("s2", "s3", "s4"),
        val=("s5",),
        test=("s6", "s7", "s8"),
        pairs=(("s2", "s3"),),
        scenes=3,
        unseen_scenes=2,
        group_scenes=1,
    )
    settings = Settings(
        cast, epochs=2, public_epochs=1, ordinary_epochs=1, minutes=1, subject="s2", imgsz=64, narrow=True
    )
    said: list[str] = []
    result = Story(tmp_path / "demo", settings, said.append, Services(portraits=MadeUp)).run()
    assert result["equal"] is True
    assert result["digest_before"] != result["digest_after"]
    html = Path(result["report"]).read_text(encoding="utf-8")
    assert "s2 asked to be forgotten" in html
    assert "destroyed and trained again without s2" in html
    assert not (tmp_path / "demo" / "ordinary").exists()
    assert not list((tmp_path / "demo").rglob("*.cache"))
