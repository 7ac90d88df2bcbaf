# SPDX-License-Identifier: Apache-2.0
"""The whole life of fifty requests with real models, trained anew at every run, and replays on the way.

    python -m pytest -m slow -x -s --durations=5 tests/slow/test_life.py

That takes 10 to 20 minutes of one core; ``-s`` shows the days. The test with models of paper, and more
seeds, is tests/requests/test_life.py.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import worlds
from proof import Story, old, once, quiet, train_inline
from requests_kit import Clock
from requests_life import Life, check

from expunge.catalog.dataset_store import get_version, load_samples
from expunge.erasure.approximate import Approximation
from expunge.erasure.closing import models_holding
from expunge.erasure.holds import MethodOverride
from expunge.evidence import certificates, verifier
from expunge.models import training

pytestmark = pytest.mark.slow

PEOPLE, REQUESTS, REPLAYS, LEAST_REPLAYS = 75, 50, 6, 5


def traces(story: Story) -> dict[str, dict[str, bytes]]:
    """Of each person: paths and digests; the id with its quotes, since it has but a few letters."""
    found: dict[str, dict[str, bytes]] = {}
    with story.workspace.session() as session:
        for sample in load_samples(session, get_version(session, "shop")):
            for who in sample.subjects if len(sample.subjects) == 1 else ():
                mine = found.setdefault(who, {"id": f'"{who}"'.encode()})
                mine |= {
                    sample.path: sample.path.encode(),
                    f"{sample.path} digest": sample.image_digest.encode(),
                }
                mine[f"{sample.path} bytes"] = bytes.fromhex(sample.image_digest)
    return found


def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of pictures proves nothing to the audit: what it would turn down is taken as not decided.

    Where the method gave back the original the verdict stays: the model is held, and a person decides.
    """
    unlearn = Approximation._unlearn

    def undecided(self: Approximation) -> Any:
        result, opened, judged = unlearn(self)
        doubtful = result.verdict == "fail" and not result.unchanged  # nothing done is nothing to judge
        return (replace(result, verdict="no-power") if doubtful else result), opened, judged

    monkeypatch.setattr(Approximation, "_unlearn", undecided)


def test_fifty_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_inline(monkeypatch)
    lenient(monkeypatch)
    world = worlds.classification(tmp_path / "data", people=PEOPLE, each=2)
    story = Story(tmp_path, world, "classify")
    story.begin()
    copy = tmp_path / "elsewhere.pt"
    shutil.copyfile(story.workspace.root / story.newest().weights, copy)
    training.adopt(story.workspace, copy, "shop", "old")
    copy.unlink()
    clock = story.workspace.clock = Clock()
    found, replayed = traces(story), []

    def replay(closed: list[str]) -> None:
        for request in closed:
            said = certificates.predicate_of(certificates.path_of(story.workspace, request))
            newest = story.newest()
            mine = [m for m in said["models"] if m["digest"] == newest.digest and m["guarantee"] == "exact"]
            if len(replayed) == REPLAYS or not mine or newest.digest in replayed:
                continue
            result = verifier.verify(story.workspace, request, verifier.VerifyOptions(replay=True), quiet())
            checks = {c["name"]: c["ok"] for c in result["checks"]}
            if checks[f"{newest.label}: replay"] is None:
                continue  # superseded: another request waits for its repair
            assert result["valid"], [c for c in result["checks"] if c["ok"] is False]
            replayed.append(newest.digest)
            print(f"replayed {newest.label} for {request}: {newest.digest[7:19]}", flush=True)

    how = ("finetune", once(accept_no_power=True))
    people = [f"p{i}" for i in range(5, PEOPLE)]
    life = Life(
        story.workspace,
        clock,
        people,
        20,
        REQUESTS,
        adopted="old",
        how=how,
        each_run=replay,
        aloud=True,
        stronger=(
            MethodOverride("retrain", {"epochs": 2, "settings": {"batch": 4}}),
            MethodOverride("auto", budget=5.0),
        ),
    )
    life.live()
    print(
        f"{len(life.plans)} requests, {len(life.refused)} refused, {life.batches} batches of several,"
        f" {life.faults} faults, {life.decided} decided by a person, {story.newest().number} versions of m,"
        f" {old(story).number} of old"
    )
    assert len(replayed) >= LEAST_REPLAYS
    check(life, story.workspace.root, found)
    for name in ("m", "old"):
        assert verifier.verify(story.workspace, name, verifier.VerifyOptions(), quiet())["valid"]
    for row in life.rows():
        assert models_holding(story.workspace, row.id) == []
    assert story.from_nothing(story.newest().label, tmp_path / "never") == story.newest().digest
