# SPDX-License-Identifier: Apache-2.0
"""Two offices: one whose data no model was trained on, which is quick, and one with a tiny detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proof import Story, add, train_inline
from web.browser import office
from web.browser.office import Office

from expunge.erasure.workspace import Workspace


@pytest.fixture(autouse=True)
def _cheap() -> None:
    """The server is another process: its passwords are hashed as they are."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with office.launched() as found:
        yield found


@pytest.fixture(scope="module")
def bare(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An office over a data set without a model."""
    folder = tmp_path_factory.mktemp("bare")
    world = office.draw(folder / "data")
    add(Workspace.init(folder / "w"), world)
    with office.served(folder) as found:
        yield found


@pytest.fixture(scope="module")
def trained(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An office with the model ``m``."""
    folder: Path = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        train_inline(patch)
        Story(folder, office.draw(folder / "data"), "detect", shards=2, slices=1, epochs=1).begin()
    with office.served(folder) as found:
        yield found
