# SPDX-License-Identifier: Apache-2.0
"""The queue as commands, with real trainings: killed at any moment, run twice at once, and bad input."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from robust.commands import Shop
from robust.test_killed import FORGETTING, check_clean, kill


def queue(shop: Shop, *people: str) -> list[str]:
    """Open and approve a request for each."""
    requests = [shop.ok("request", "open", "--subject", who)["request"] for who in people]
    shop.ok("request", "approve", *requests)
    return requests


def states(shop: Shop) -> dict[str, str]:
    return dict(shop.sql("SELECT id, state FROM request"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", FORGETTING)
def test_a_run_killed(shop: Shop, both_forgotten: str, moment: str) -> None:
    requests = queue(shop, "s03", "s04")
    assert shop.run("request", "run", "--all", fault=kill(FORGETTING[moment])).code == -signal.SIGKILL
    assert set(states(shop).values()) == {"running"}, "the erasure of both is one transaction"
    done = shop.ok("request", "run", "--all")
    assert {o["request"]: o["state"] for o in done["requests"]} == dict.fromkeys(requests, "executed")
    assert shop.ok("models", "m")["models"][-1]["digest"] == both_forgotten
    check_clean(shop)
    for request in requests:
        assert shop.ok("verify", request)["valid"]
        steps = [e["to"] for e in shop.ok("request", "show", request)["events"] if e["from"] != e["to"]]
        assert steps == ["open", "scoped", "approved", "running", "resumed", "executed"]


@pytest.mark.slow
def test_two_runs_at_once(shop: Shop, both_forgotten: str) -> None:
    requests = queue(shop, "s03", "s04")
    running = [shop.start("request", "run", "--all") for _ in range(2)]
    for command in running:
        result = command.wait()
        assert result.code in (0, 1), result
    shop.run("request", "run", "--all")
    assert states(shop) == dict.fromkeys(requests, "executed")
    assert shop.ok("models", "m")["models"][-1]["digest"] == both_forgotten
    assert [v for (v,) in shop.sql("SELECT number FROM version ORDER BY number")] == [1, 2, 3]


@pytest.fixture(scope="session")
def both_forgotten(template: Shop, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the model after s03 and s04 were forgotten together by one command."""
    shop = template.copy(tmp_path_factory.mktemp("both") / "shop")
    return str(shop.ok("forget", "--subject", "s03", "--subject", "s04")["models"][0]["digest"])


BAD: dict[str, tuple[str, ...]] = {
    "no such date": ("open", "--subject", "s03", "--received", "2026-02-30"),
    "another way of writing it": ("open", "--subject", "s03", "--received", "30/1/2026"),
    "in the future": ("open", "--subject", "s03", "--received", "2999-01-01"),
    "due in the past": ("open", "--subject", "s03", "--due", "2001-01-01"),
    "due too late": ("open", "--subject", "s03", "--due", "2999-01-01"),
    "an unknown ground": ("open", "--subject", "s03", "--ground", "whim"),
    "nobody": ("open", "--subject", "nobody"),
    "nothing": ("open",),
    "an unknown request": ("approve", "r-0"),
    "nothing to run": ("run",),
    "two ways to run": ("run", "--due", "--all"),
    "an unknown reason": ("refuse", "r-0", "--reason", "whim"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(bare: Shop, name: str) -> None:
    before: Any = bare.state()
    error = bare.refused("request", *BAD[name])
    assert error["error"]
    assert bare.state() == before
