# SPDX-License-Identifier: Apache-2.0
"""One writer for each model, readers that never wait, and a forget that makes a repair give way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from robust import world
from robust.commands import PATIENCE_SECONDS, Running, Shop, until

from expunge.evidence.certificates import predicate_of


def hold(what: str) -> None:
    """Hold the lock of ``m`` until the file ``let-go`` is there."""
    from expunge.storage.locks import model_lock
    from expunge.workspace import Workspace

    with model_lock(Workspace.open().locks, "m", what):
        Path("held").touch()
        until(lambda: Path("let-go").exists(), "the file let-go")


@contextmanager
def held(shop: Shop, what: str) -> Iterator[Running]:
    """Another process holds the lock."""
    running = shop.start_call(__file__, "hold", what=what)
    until((shop.folder / "held").exists, "the lock to be held")
    try:
        yield running
    finally:
        (shop.folder / "let-go").touch()
        running.wait()


WRITERS = {
    "train": (*world.TRAIN[:-1], "5"),
    "forget": ("forget", "--subject", "s03"),
    "repair": ("repair", "m"),
    "adopt": ("adopt", "{weights}", "--data", "shop", "--name", "m"),
}


@pytest.mark.parametrize("what", ["train", "forget"])
def test_the_second_writer_is_told_and_readers_do_not_wait(shop: Shop, what: str) -> None:
    (weights,) = shop.sql("SELECT weights FROM model_version")[0]
    before = shop.state()
    with held(shop, what) as holder:
        for argv in WRITERS.values():
            error = shop.refused(*(word.format(weights=shop.root / weights) for word in argv))
            assert str(holder.pid) in error["reason"], error
            assert what in error["reason"], error
            assert error["next"]
        assert [m["model"] for m in shop.ok("models")["models"]] == ["m@1"]
        assert shop.ok("models", "m")["models"]
        assert shop.ok("data", "show", "shop")["samples"] == 26
        assert shop.ok("forget", "--subject", "s03", "--dry-run")["samples"] == 3
        assert shop.ok("verify", "m")["valid"]
        assert shop.ok("status", str(shop.root / weights))["status"] == "current"
    for name in ("held", "let-go"):
        (shop.folder / name).unlink()
    assert shop.state() == before
    shop.ok("forget", "--subject", "s03")


def test_models_are_locked_apart(shop: Shop) -> None:
    """Who changes one model does not keep another from being changed."""
    argv = [("other" if word == "m" else word) for word in world.TRAIN]
    with held(shop, "train"):
        assert shop.ok(*argv)["model"] == "other@1"


def test_the_lock_of_a_killed_process_is_released(shop: Shop, undisturbed: Any) -> None:
    running = shop.start_call(__file__, "hold", what="forget")
    until((shop.folder / "held").exists, "the lock to be held")
    assert str(running.pid) in shop.refused("forget", "--subject", "s03")["reason"]
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert shop.ok("forget", "--subject", "s03")["models"][0]["digest"] == undisturbed.forgotten


def slowly(argv: list[str]) -> None:
    """Run a command whose training waits until it is asked to give way, then does so as the real one does."""
    from expunge.cli.main import cli
    from expunge.errors import Preempted
    from expunge.exact.model import ErasableModel

    def train(self: Any, model_id: int, graph: Any, label: str, preempted: Any = lambda: False) -> float:
        Path("training").touch()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not preempted():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        raise Preempted("gave way", "", "")

    ErasableModel.train = train  # type: ignore[method-assign]
    cli.main(argv, prog_name="expunge")


@pytest.fixture(scope="session")
def both_forgotten(template: Shop, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the model after s03 and s04 were forgotten together, undisturbed."""
    shop = template.copy(tmp_path_factory.mktemp("both") / "shop")
    return str(shop.ok("forget", "--subject", "s03", "--subject", "s04")["models"][0]["digest"])


@pytest.mark.parametrize("command", ["repair", "forget"])
def test_a_forget_preempts_a_repair(shop: Shop, both_forgotten: str, command: str) -> None:
    """Also the repair of another forget: its interim stays published, and the second finishes for both."""
    if command == "repair":
        first = shop.ok("forget", "--subject", "s03", "--defer")["request"]
        slow = shop.start_call(__file__, "slowly", argv=["repair", "--json"])
    else:
        slow = shop.start_call(__file__, "slowly", argv=["forget", "--subject", "s03", "--json"])
    until((shop.folder / "training").exists, "the slow training")
    outcome = shop.ok("forget", "--subject", "s04")
    ended = slow.wait()
    if command == "repair":
        assert ended.code == 1, ended
        assert set(ended.json) == {"error", "reason", "next"}
    else:
        assert ended.code == 0, ended
        (entry,) = ended.json["models"]
        assert entry["digest"] is None
        assert entry["interim"]["digest"]
        assert ended.json["state"] == "running"
        first = ended.json["request"]
    (entry,) = outcome["models"]
    assert entry["digest"] == both_forgotten
    assert entry["interim"]["digest"] not in (entry["digest"], None)
    assert shop.ok("models", "m")["models"][-1]["guarantee"] == "exact"
    states = dict(shop.sql("SELECT id, state FROM request"))
    assert states == {first: "executed", outcome["request"]: "executed"}, "their originals are still there"
    for request in states:
        assert shop.ok("verify", request)["valid"]
        entries = predicate_of(shop.root / "certificates" / f"{request}.json")["models"]
        assert [e["digest"] for e in entries] == [both_forgotten]


@pytest.fixture(scope="session")
def both_forgotten_by_two(two_template: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same for two models."""
    shop = two_template.copy(tmp_path_factory.mktemp("both") / "shop")
    outcome = shop.ok("forget", "--subject", "s03", "--subject", "s04")
    return {entry["model"].partition("@")[0]: entry["digest"] for entry in outcome["models"]}


@pytest.mark.parametrize("only", [[], ["--model", "z"]])
def test_a_forget_of_several_models_is_preempted(
    two_models: Shop, both_forgotten_by_two: dict[str, str], only: list[str]
) -> None:
    """Whichever of them the other erasure wants, it need not wait for the repair of the rest."""
    shop = two_models
    slow = shop.start_call(__file__, "slowly", argv=["forget", "--subject", "s03", "--json"])
    until((shop.folder / "training").exists, "the slow training")
    shop.ok("forget", "--subject", "s04", *only)
    ended = slow.wait()
    assert ended.code == 0, ended
    assert [m["digest"] for m in ended.json["models"]] == [None, None]
    assert all(m["interim"]["digest"] for m in ended.json["models"])
    shop.ok("repair")
    for model in ("m", "z"):
        assert world.newest(shop, model) == both_forgotten_by_two[model]
    assert {state for (state,) in shop.sql("SELECT state FROM request")} == {"executed"}


def test_a_waiter_that_died_preempts_nobody(shop: Shop, undisturbed: Any) -> None:
    """A flag that a killed forget left behind does not make the next repair give way."""
    shop.ok("forget", "--subject", "s03", "--defer")
    (shop.root / "locks" / "m.preempt").touch()
    assert shop.ok("repair")["models"][0]["digest"] == undisturbed.forgotten
    (shop.root / "locks" / "m.preempt").touch()
    assert shop.ok("forget", "--subject", "s04")["models"][0]["digest"]


def test_only_a_repair_gives_way(shop: Shop) -> None:
    """A forget is told who trains; it does not wait for a training that cannot stop, nor disturb it later."""
    with held(shop, "train") as holder:
        assert str(holder.pid) in shop.refused("forget", "--subject", "s03")["reason"]
    assert not (shop.root / "locks" / "m.preempt").exists()


def test_many_at_once(shop: Shop) -> None:
    """Several withdraw in the same moment: each command succeeds or is told to wait; the end is right."""
    people = ("s01", "s02", "s04")
    running = [shop.start("forget", "--subject", who, "--defer") for who in people]
    for command in running:
        result = command.wait()
        assert result.code == 0 or "being changed" in result.json["error"], result
    for who in people:
        shop.ok("forget", "--subject", who, "--defer")
    shop.ok("repair")
    assert shop.ok("data", "show", "shop")["subjects"] == 3
    assert world.newest(shop) == world.never(
        shop.nursery, shop.folder.parent / "never", world.plan_of(shop), *people
    )
    assert shop.ok("verify", "m")["valid"]
    assert {state for (state,) in shop.sql("SELECT state FROM request")} == {"executed"}
