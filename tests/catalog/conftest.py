# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a workspace, and scans that need no files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.workspace import Workspace


def made_sample(path: str, *subjects: str, public: bool = False, content: str | None = None) -> Sample:
    """Return a sample whose digest is derived from its path, or from its content if given."""
    split = path.split("/")[0]
    digest = hashlib.sha256((content or path).encode()).hexdigest()
    return Sample(path, split, digest, "", None, tuple(sorted(subjects)), public)


def made_scan(samples: Iterable[Sample], root: str = "/d", names: tuple[str, ...] = ("a", "b")) -> Scan:
    """Return a scan of a detection dataset."""
    ordered = tuple(sorted(samples, key=lambda sample: sample.path))
    return Scan(Path(root), DatasetConfig("yolo", names), ordered)


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """Return the function that makes a sample."""
    return made_sample


@pytest.fixture
def scan() -> Callable[..., Scan]:
    """Return the function that makes a scan."""
    return made_scan


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace to copy, because making one takes longer than most tests."""
    return Workspace.init(tmp_path_factory.mktemp("template")).root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    """Return an empty workspace."""
    return Workspace(Path(shutil.copytree(template, tmp_path / ".expunge")))


@pytest.fixture
def people() -> Scan:
    """Return a scan of three people: a photo of two of them, a copy, a public image, two images in val."""
    return made_scan(
        [
            made_sample("train/a1", "ann"),
            made_sample("train/a2", "ann"),
            made_sample("train/ab", "ann", "bob"),
            made_sample("train/b1", "bob"),
            made_sample("train/c1", "cid"),
            made_sample("train/copy-of-a1", content="train/a1"),
            made_sample("train/free"),
            made_sample("train/staff", "sue", public=True),
            made_sample("val/a3", "ann"),
            made_sample("val/v"),
        ]
    )
