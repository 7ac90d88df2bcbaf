# SPDX-License-Identifier: Apache-2.0
"""One nursery and one training for all tests here; each test works on a copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from robust import world
from robust.commands import Nursery, Shop
from robust.commands import nursery as shared_nursery


@dataclass
class Undisturbed:
    """Digests that commands give when nothing goes wrong.

    Attributes:
        trained: After training.
        interim: At once after forgetting s03.
        forgotten: After its repair; checked against a training on a folder in which s03 never was.
    """

    trained: str
    interim: str
    forgotten: str


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Nursery:
    """The process that runs the commands."""
    return shared_nursery(tmp_path_factory.mktemp("nursery"))


@pytest.fixture(scope="session")
def empty_template(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A workspace with data, nothing trained."""
    return world.untrained(nursery, tmp_path_factory.mktemp("template") / "empty")


@pytest.fixture(scope="session")
def template(empty_template: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A workspace with a model ``m``."""
    shop = empty_template.copy(tmp_path_factory.mktemp("template") / "trained")
    shop.ok(*world.TRAIN)
    return shop


@pytest.fixture(scope="session")
def undisturbed(template: Shop, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What should come out."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shop = template.copy(folder / "forgotten")
    outcome = shop.ok("forget", "--subject", "s03")["models"][0]
    never = world.never(shop.nursery, folder / "never", world.plan_of(shop), "s03")
    assert outcome["digest"] == never
    return Undisturbed(world.newest(template), outcome["interim"]["digest"], outcome["digest"])


@pytest.fixture(scope="session")
def two_template(template: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A workspace with a second model, ``z``, on the same data."""
    shop = template.copy(tmp_path_factory.mktemp("template") / "two")
    shop.ok(*(("z" if word == "m" else word) for word in world.TRAIN), "--seed", "5")
    return shop


@pytest.fixture
def two_models(two_template: Shop, tmp_path: Path) -> Shop:
    """A copy of the workspace with two models."""
    return two_template.copy(tmp_path / "two")


@pytest.fixture
def bare(empty_template: Shop, tmp_path: Path) -> Shop:
    """A copy of the workspace without a model."""
    return empty_template.copy(tmp_path / "bare")


@pytest.fixture
def shop(template: Shop, tmp_path: Path) -> Shop:
    """A copy of the workspace with the model ``m``."""
    return template.copy(tmp_path / "shop")
