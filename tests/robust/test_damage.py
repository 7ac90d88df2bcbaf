# SPDX-License-Identifier: Apache-2.0
"""A failing disk: damaged checkpoints, plans and initial weights are noticed, never built upon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from robust import world
from robust.commands import Shop
from safetensors import safe_open


def truncate(file: Path) -> None:
    """Lose the second half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """Change one bit of every tensor's first number, so that whatever is read of the file is wrong."""
    content = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    with safe_open(str(file), framework="np") as tensors:
        names = list(tensors.keys())
    assert names
    for place in range(start + 2, len(content), 64):
        content[place] ^= 0x10
    file.write_bytes(content)


DAMAGE = {"truncated": truncate, "a bit flipped": flip, "emptied": lambda file: file.write_bytes(b"")}


@pytest.mark.parametrize(
    ("damage", "method"), [*((damage, "exact") for damage in DAMAGE), ("truncated", "retrain")]
)
def test_damaged_checkpoints(shop: Shop, undisturbed: Any, damage: str, method: str) -> None:
    """Each one that is read is found out, removed and trained anew; the end is the same."""
    files = sorted((shop.root / "checkpoints" / "m").iterdir())
    for file in files:
        DAMAGE[damage](file)
    told = 0
    command = (*world.FORGET, "--method", method)
    while (result := shop.run(*command)).code == 2:
        assert "damaged" in result.json["error"], result.json
        assert result.json["next"]
        told += 1
        assert told <= len(files)
    assert told > 0
    assert result.code == 0, result
    assert world.newest(shop) == undisturbed.forgotten
    assert shop.ok("verify", "m")["valid"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_initial_weights(shop: Shop, undisturbed: Any, damage: str) -> None:
    file = world.plan_of(shop).with_name("initial.weights")
    before = file.read_bytes()
    DAMAGE[damage](file)
    assert "initial weights" in shop.refused(*world.FORGET)["error"]
    assert "initial weights" in shop.refused("repair")["error"]
    assert shop.ok("models", "m")["models"][-1]["digest"] == undisturbed.interim, "it needs none"
    file.write_bytes(before)
    shop.ok("repair")
    assert world.newest(shop) == undisturbed.forgotten


@pytest.mark.parametrize("change", ["seed", "truncated", "gone"])
def test_a_changed_plan(shop: Shop, undisturbed: Any, change: str) -> None:
    """It is noticed before anything happens: with it every checkpoint would look foreign."""
    file = world.plan_of(shop)
    before = file.read_text()
    if change == "seed":
        file.write_text(before.replace('"seed": 0', '"seed": 1'))
    elif change == "truncated":
        truncate(file)
    else:
        file.unlink()
    state = shop.state()
    for argv in (world.FORGET, (*world.FORGET, "--method", "retrain"), (*world.FORGET, "--dry-run")):
        assert "plan" in shop.refused(*argv)["error"]
    result = shop.run("verify", "m")
    assert result.code == 1
    assert {c["name"]: c["ok"] for c in result.json["checks"]}["m@1: plan"] is False
    assert shop.state() == state
    file.write_text(before)
    assert shop.ok(*world.FORGET)["models"][0]["digest"] == undisturbed.forgotten


def test_published_weights_lost(shop: Shop, undisturbed: Any) -> None:
    """Nothing is made from them, so an erasure works without."""
    for file in (shop.root / "models" / "m").iterdir():
        file.unlink()
    checks = {c["name"]: c["ok"] for c in shop.run("verify", "m").json["checks"]}
    assert checks["m@1: weights"] is None
    assert shop.ok(*world.FORGET)["models"][0]["digest"] == undisturbed.forgotten
