# SPDX-License-Identifier: Apache-2.0
"""A small dataset beside a workspace."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.data_kit import SHOWN, write_image

from expunge.workspace import Workspace


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the catalog of an empty workspace."""
    return Workspace.init(tmp_path_factory.mktemp("template")).catalog.read_bytes()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: bytes) -> Path:
    """Return a dataset with subjects, beside a workspace, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXPUNGE_WORKSPACE", raising=False)
    root = tmp_path / "shop"
    for name in (*SHOWN, "train/free", "val/e"):
        write_image(root / "images" / f"{name}.png")
        label = root / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 .5 .5 .1 .1\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [box]\n")
    rows = [f"images/{name}.png,{name.split('/')[1][:2]}" for name in SHOWN]
    (root / "subjects.csv").write_text("\n".join(["sample,subject", *rows, ""]))
    (tmp_path / ".expunge" / "keys").mkdir(parents=True)
    (tmp_path / ".expunge" / "keys" / "suppression.key").write_bytes(b"k" * 32)
    (tmp_path / ".expunge" / "catalog.sqlite").write_bytes(template)
    return root
