# SPDX-License-Identifier: Apache-2.0
"""The state kept in the midst of a long stage: training goes on from it, and it is data like any other."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from robust import world
from robust.commands import Shop

TRAIN = tuple("6" if world.TRAIN[i - 1] == "--epochs" else word for i, word in enumerate(world.TRAIN))
AFTER_THE_FIRST = {
    "do": "kill-parent", "role": "worker", "match": r"\.partial$", "operations": ["replace"], "after": True,
}  # fmt: skip


def saving_often(argv: list[str]) -> None:
    """Run a command that keeps its state after every epoch, instead of every half minute."""
    from expunge.cli.main import cli
    from expunge.exact import worker

    worker.PARTIAL_EVERY_SECONDS = 0.0
    cli.main([*argv, "--json"], prog_name="expunge")


def cut_short(shop: Shop, *argv: str) -> Path:
    """Kill a command when it has kept a state; returns one that is left."""
    running = shop.start_call(__file__, "saving_often", fault=AFTER_THE_FIRST, argv=argv)
    assert running.wait().code == -signal.SIGKILL
    return next((shop.root / "checkpoints" / "m").glob("*.partial"))


def change(kept: str, elsewhere: bool) -> None:
    """Put other weights into a kept state, and let it be of another environment."""
    from expunge.training.checkpoint import load_state, save_state

    state, about = load_state(Path(kept))
    for value in state.model.values():
        value.mul_(2)
    if elsewhere:
        about["fingerprint"]["processor"] = "abacus"
    save_state(Path(kept), state, about)


@pytest.fixture(scope="module")
def expected(empty_template: Shop, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the longer training, undisturbed."""
    return str(empty_template.copy(tmp_path_factory.mktemp("long") / "shop").ok(*TRAIN)["digest"])


@pytest.mark.parametrize("kept", ["untouched", "changed", "of another environment", "damaged"])
def test_training_goes_on(bare: Shop, expected: str, kept: str) -> None:
    """From the state that was kept, if it is whole and of this environment."""
    file = cut_short(bare, *TRAIN)
    if kept == "damaged":
        file.write_bytes(file.read_bytes()[:-100])
        assert "damaged" in bare.refused(*TRAIN)["error"]
    elif kept != "untouched":
        bare.call(__file__, "change", kept=str(file), elsewhere=kept != "changed")
    digest = bare.ok(*TRAIN)["digest"]
    assert (digest == expected) == (kept != "changed"), "changed is the negative control: it is used"
    assert bare.strays() == []


def test_it_is_erased_like_a_checkpoint(shop: Shop, undisturbed: Any, tmp_path: Path) -> None:
    """A repair was cut short: what it kept goes with the next one who is in it, and only then."""
    file = cut_short(shop, *world.FORGET)
    left = {}
    for who in ("s00", "s01", "s02", "s04", "s05"):
        copy = shop.copy(tmp_path / who)
        copy.ok("forget", "--subject", who, "--defer")
        left[who] = (copy.root / "checkpoints" / "m" / file.name).exists()
        checks = copy.run("verify", "m").json["checks"]
        assert all(c["ok"] is not False for c in checks if "checkpoints" in c["name"]), who
    assert set(left.values()) == {True, False}, left
    shop.ok("repair")
    assert world.newest(shop) == undisturbed.forgotten
