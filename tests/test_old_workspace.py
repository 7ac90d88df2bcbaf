# SPDX-License-Identifier: Apache-2.0
"""A workspace made by an older version opens and works: see ``old_workspace.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from old_workspace import ARCHIVE

CLOSED, WAITS, SCOPED = "r-6f66f8e8ab4c2773", "r-6b67791bf34fe77f", "r-5020a41f8524f654"
FIRST = "sha256:fe6001f0b5129a43b9b77f3068d972404e20901be9ce0b2fd489560c2cba89b1"


class Shop:
    """The unpacked workspace, in another folder than the one in which it was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")

    def __call__(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command and return what it prints."""
        environ = {**os.environ, "EXPUNGE_KEYS": str(self.folder / "keys"), "EXPUNGE_ANCHORS": "none"}
        command = [sys.executable, "-m", "expunge", *words, "--json"]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True)
        assert done.returncode == code, done.stderr[-2000:]
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """One for all tests, which go on where the last one stopped."""
    return Shop(tmp_path_factory.mktemp("old"))


def test_what_it_knows_is_read(shop: Shop) -> None:
    """Models, requests, and the old certificate under the old key."""
    versions = shop("models", "m")["models"]
    assert [(v["model"], v["state"]) for v in versions] == [
        ("m@1", "superseded"), ("m@2", "superseded"), ("m@3", "superseded"), ("m@4", "interim"),
    ]  # fmt: skip
    assert versions[0]["digest"] == FIRST
    states = {r["request"]: r["state"] for r in shop("request", "list", "--all")["requests"]}
    assert states == {CLOSED: "closed", WAITS: "running", SCOPED: "scoped"}
    checks = shop("verify", CLOSED)
    assert checks["valid"]
    assert shop("status", ".expunge/models/m/m-1.pt", code=1)["status"] == "superseded"


def test_it_goes_on(shop: Shop) -> None:
    """The data has moved; what waits is finished, on the machine of then or on another one."""
    added = shop("data", "add", "shop", "data", "--skip-erased")
    assert added["dataset"].startswith("shop@")
    forgotten = shop("forget", "--subject", "p3", "--method", "retrain", "--yes")
    assert [m["guarantee"] for m in forgotten["models"]] == ["exact"]
    states = {r["request"]: r["state"] for r in shop("request", "list", "--all")["requests"]}
    assert states[WAITS] == "executed", "the training was for it, too; its originals are there"
