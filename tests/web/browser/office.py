# SPDX-License-Identifier: Apache-2.0
"""A desk that is really served, on a port of this machine, over a small data set; and a browser for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import worlds
from PIL import Image, ImageEnhance

ROOT = Path(__file__).resolve().parents[3]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = (
    "no Chromium on this machine: these tests need one, as Debian's package chromium (docs/install.md)"
)
PASSWORD = "correct horse battery staple"
ALIKE = "images/train/somebody else.png"


@dataclass
class Office:
    """A served workspace.

    Attributes:
        folder: Holds the workspace and the data.
        data: The data set's folder.
        address: Of the desk.
        link: The first admin's one-time link.
        process: The server.
    """

    folder: Path
    data: Path
    address: str
    link: str
    process: subprocess.Popen[str]

    def shell(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a command of expunge's; returns its exit code and its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "expunge", *arguments, "--workspace", str(self.folder / "w"), "--json"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=500,
        )
        return done.returncode, json.loads(done.stdout)


def environment() -> dict[str, str]:
    """The environment in which commands find this source tree."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def browser_path() -> str:
    """The browser's program; without one the test is skipped."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(NO_BROWSER)
    return found


@contextmanager
def launched() -> Iterator[Any]:
    """A headless browser."""
    sync = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    path = browser_path()
    options = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            browser.close()


def draw(folder: Path) -> worlds.World:
    """A data set in which one picture of nobody's is one of p1's, a little brighter."""
    world = worlds.detection(folder)
    with Image.open(folder / "images/train/p1/shot 0.png") as shown:
        ImageEnhance.Brightness(shown).enhance(1.05).save(folder / ALIKE)
    return world


@contextmanager
def served(folder: Path) -> Iterator[Office]:
    """Serve the workspace ``w`` of a folder, with the pictures of its ``data``."""
    command = [sys.executable, "-m", "expunge", "serve", "--port", "0", "--workspace", str(folder / "w")]
    process = subprocess.Popen(
        [*command, "--root", str(folder / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        said = ""
        while not (found := re.search(r"(http://\S+)/link/\S+", said)):
            line = process.stdout.readline()
            assert line, f"the server ended: {said}"
            said += line
        yield Office(folder, folder / "data", found.group(1), found.group(0), process)
    finally:
        process.terminate()
        process.wait(30)
