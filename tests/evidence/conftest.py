# SPDX-License-Identifier: Apache-2.0
"""A workspace with an erasure and its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from robust import world
from robust.commands import Shop
from robust.commands import nursery as shared_nursery


@dataclass
class Erased:
    """A workspace whose model ``m`` forgot s03: m@1 is the original, m@2 the interim, m@3 the repaired one.

    Attributes:
        shop: The workspace; the deleted checkpoints that saw s03 are kept in its folder ``stale``.
        certificate: The certificate's file.
    """

    shop: Shop
    certificate: Path


@pytest.fixture(scope="session")
def erased_template(tmp_path_factory: pytest.TempPathFactory) -> Erased:
    """Return a workspace after one training and one erasure."""
    nursery = shared_nursery(tmp_path_factory.mktemp("nursery"))
    shop = world.trained(nursery, tmp_path_factory.mktemp("erased") / "shop")
    before = {f: f.read_bytes() for f in (shop.root / "checkpoints" / "m").iterdir()}
    outcome = shop.ok(*world.FORGET)
    (shop.folder / "stale").mkdir()
    for file, content in before.items():
        if not file.exists():
            (shop.folder / "stale" / file.name).write_bytes(content)
    return Erased(shop, Path(outcome["certificate"]))


@pytest.fixture
def erased(erased_template: Erased, tmp_path: Path) -> Erased:
    """Return a copy of the template."""
    shop = erased_template.shop.copy(tmp_path / "shop")
    return Erased(shop, shop.root / "certificates" / erased_template.certificate.name)
