# SPDX-License-Identifier: Apache-2.0
"""Ultralytics replaces parts of Pillow when it is imported; reading data must not be affected."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.data.scan import scan
from expunge.errors import InputError
from expunge.tasks.quiet import load_ultralytics


def test_an_unreadable_image_is_still_an_input_error(shop: Path) -> None:
    load_ultralytics()
    (shop / "images/train/a.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"a\.png"):
        scan(shop / "data.yaml")
