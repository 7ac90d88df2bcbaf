# SPDX-License-Identifier: Apache-2.0
"""The whole life of many requests: random arrivals, decisions, extensions, batches, faults, a fake clock.

What a day brings depends on a seed alone. The models may be of paper or real: an exact and an adopted one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from requests_kit import Clock, told_once

from expunge.catalog import clock as law
from expunge.catalog.request_store import events
from expunge.catalog.states import State
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.erasure import execution, intake, scheduler, status
from expunge.erasure.holds import HeldModel, MethodOverride
from expunge.erasure.intake import Opening
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.scheduler import QueueSelection
from expunge.erasure.scope import ErasureRequest
from expunge.erasure.skipped_models import find_left_out
from expunge.errors import StorageError
from expunge.evidence import certificates, log, report_page
from expunge.evidence.key_store import public_path
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.progress import Progress
from expunge.purge import run
from expunge.purge.originals import find_originals
from expunge.workspace import Workspace

QUIET = Progress(quiet=True)
ARRIVALS_DAYS, LONGEST_DAYS = 100, 400


@dataclass
class Plans:
    """What will happen to a request."""

    ask: ErasureRequest
    decide: int  # day
    fate: str  # approve | refuse | extend
    tell: int  # day


@dataclass
class Life:
    """An office, day by day.

    Attributes:
        workspace: Where; it has the models ``m`` (exact) and ``adopted``.
        clock: What it goes by.
        people: Who may ask.
        seed: Of all that is random.
        requests: How many arrive.
        adopted: Name of the adopted model.
        how: Method and settings for it.
        each_run: Is called with the requests that a night has closed.
        stronger: What a person decides for where the unlearning is held, in turn until one is accepted.
        aloud: Print what every day came to: a long life that stops tells where (``pytest -s``).
    """

    workspace: Workspace
    clock: Clock
    people: list[str]
    seed: int
    requests: int = 50
    adopted: str = "z"
    how: tuple[str, MethodSettings] = ("auto", MethodSettings())
    each_run: Callable[[list[str]], None] = lambda closed: None
    stronger: tuple[MethodOverride, ...] = (MethodOverride("retrain"),)
    aloud: bool = False
    plans: dict[str, Plans] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    faults: int = 0
    decided: int = 0
    batches: int = 0

    def live(self) -> None:
        """Let all requests arrive, and go on until every one is closed."""
        rng = self.rng = random.Random(self.seed)
        waiting = list(self.people)
        arrivals = sorted(rng.randrange(ARRIVALS_DAYS) for _ in range(self.requests))
        for day in range(LONGEST_DAYS):
            self.clock.go(days=1, minutes=1)
            for _ in range(arrivals.count(day)):
                self._arrive(day, waiting)
            self._decide(day)
            self._night(day)
            if self.aloud:
                print(f"day {day}: {dict(Counter(str(row.state) for row in self.rows()))}", flush=True)
            if day > ARRIVALS_DAYS and all(row.state == State.CLOSED for row in self.rows()):
                break
        else:
            raise AssertionError({row.id: row.state for row in self.rows() if row.state != State.CLOSED})
        assert len(self.rows()) == self.requests

    def rows(self) -> list[RequestRow]:
        with self.workspace.session() as session:
            rows = list(session.query(RequestRow).order_by(RequestRow.received, RequestRow.id))
            session.expunge_all()
        return rows

    def _arrive(self, day: int, waiting: list[str]) -> None:
        rng = self.rng
        who = tuple(waiting.pop() for _ in range(rng.choice((1, 1, 1, 1, 2))))
        if rng.random() < 0.1 and self.plans:  # somebody else asks for the same person as well
            who = (*who, rng.choice(sorted(p for plans in self.plans.values() for p in plans.ask.subjects)))
        only, defer = ("m",) if rng.random() < 0.1 else (), rng.random() < 0.25
        accepting = MethodSettings(accept_no_power=True, budget=5.0)  # it is also what ``run`` goes by later
        method, settings = ("auto", accepting) if only else self.how
        ask = ErasureRequest(subjects=who, models=only, method=method, settings=settings, defer=defer,
                  delete_originals=rng.random() < 0.5)  # fmt: skip
        came = self.clock() - timedelta(days=rng.randrange(4))
        opening = Opening(came.isoformat(), key=f"ticket {day} {who[0]}", actor="ann", note="a note")
        opened = intake.open_request(self.workspace, ask, opening)
        assert intake.open_request(self.workspace, ask, opening)["reused"]
        fate = rng.choices(("approve", "refuse", "extend"), (70, 15, 15))[0]
        self.plans[opened["request"]] = Plans(ask, day + rng.randrange(15), fate, day + rng.randrange(15, 25))

    def _decide(self, day: int) -> None:
        today = self.clock().date().isoformat()
        for row in self.rows():
            plans = self.plans[row.id]
            if row.state == State.SCOPED and day >= plans.decide:
                if plans.fate == "refuse":
                    intake.refuse(self.workspace, row.id, "unfounded", "words", None, "bob")
                    continue
                if plans.fate == "extend":
                    intake.extend(self.workspace, row.id, "complexity", today)
                intake.approve(self.workspace, row.id, "bob")
            elif row.state == State.REFUSED and day >= plans.tell:
                intake.refuse(self.workspace, row.id, told=today, actor="bob")
                self.refused.add(row.id)

    def _night(self, day: int) -> None:
        rng, before = self.rng, self._closed()
        every = rng.random() < 0.04 or day > LONGEST_DAYS - 100
        chosen = QueueSelection(due=not every, every=every)
        if rng.random() < 0.05:
            self._fault(chosen)
        done = scheduler.run(self.workspace, chosen, QUIET, "night")
        assert not done.failed, [str(f.error) for f in done.failed]
        self.batches += sum(len(joint) > 1 for joint in done.batches)
        for hold in done.held:
            self._decide_held(hold)
        if rng.random() < 0.05:
            run.purge(self.workspace, run.PurgeOptions())
        if day % 20 == 0:
            for saved in status.list_requests(self.workspace)["waiting"]:
                assert saved["together"] <= saved["one_by_one"] + 1e-6
            told_once(self.workspace)
            self._finish()
        if closed := sorted(self._closed() - before - self.refused):
            self.each_run(closed)

    def _fault(self, chosen: QueueSelection) -> None:
        def full(*args: object) -> None:
            self.faults += 1
            raise StorageError("The disk is full.")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execution, "_executions", full)
            scheduler.run(self.workspace, chosen, QUIET, "night")

    def _decide_held(self, hold: HeldModel) -> None:
        """What a person does where the audit did not accept a result."""
        request, self.decided = hold.requests[-1], self.decided + 1
        for other in self.stronger:
            done = scheduler.run(self.workspace, QueueSelection(ids=(request,), other=other), QUIET, "bob")
            assert not done.failed, [str(f.error) for f in done.failed]
            if all(m.get("accepted", True) for m in done.outcomes[request]["models"]):
                return
        raise AssertionError((hold, "nothing was accepted", done.outcomes[request]["models"]))

    def _finish(self) -> None:
        """What people do with requests that wait for them: originals, and a model that was left out."""
        for row in self.rows():
            if row.state != State.EXECUTED:
                continue
            if find_left_out(self.workspace, row.id):
                method, settings = self.how
                ask = ErasureRequest(
                    subjects=self.plans[row.id].ask.subjects,
                    models=(self.adopted,),
                    method=method,
                    settings=settings,
                )
                execution.forget(self.workspace, ask, QUIET, actor="bob")
            else:
                for file in find_originals(self.workspace, row.id):
                    file.unlink()

    def _closed(self) -> set[str]:
        return {row.id for row in self.rows() if row.state == State.CLOSED}


def check(life: Life, folder: Path, traces: dict[str, dict[str, bytes]]) -> None:
    """Check the record, the deadlines, the log, every certificate, and that nobody is left.

    Args:
        life: A life that was lived.
        folder: Where to write reports; everything below it is searched.
        traces: Of every person, by a word for it, what must not be found any more.
    """
    workspace, rules = life.workspace, life.workspace.settings.rules
    told_once(workspace)
    erased: set[str] = set()
    for row in life.rows():
        with workspace.session() as session:
            at = {e.target: e.at for e in reversed(session.query(RequestEventRow).filter(
                RequestEventRow.request_id == row.id).order_by(RequestEventRow.id).all())}  # fmt: skip
            steps = [e["to"] for e in events(session, row.id)]
        if row.id in life.refused:
            assert at["closed"] <= law.notice_due(row.received, rules)
            assert not certificates.path_of(workspace, row.id).exists()
            continue
        assert at["executed"] <= row.due, ("a deadline was missed", row.id, steps)
        erased.update(life.plans[row.id].ask.subjects)
        path = certificates.path_of(workspace, row.id)
        means = VerifyOptions(public_path(workspace), workspace.root / "log" / log.ENTRIES)
        found = verify(None, str(path), means, QUIET)
        assert found["valid"], [c for c in found["checks"] if c["ok"] is False]
        at_home = {c["name"]: c["ok"] for c in verify(workspace, row.id, VerifyOptions(), QUIET)["checks"]}
        assert at_home["request"]
        assert at_home["roots"]
        assert [c["ok"] for c in found["checks"] if c["name"] == "log: entry"] == [True]
        said = certificates.predicate_of(path)
        assert (said["state"], said["catalog"]["forgotten"]) == ("closed", True)
        report_page.write(workspace, row.id, folder / f"{row.id}.html")
    assert erased
    files(life)
    still_there = {who for who in life.people if who not in erased}
    content = {f: f.read_bytes() + str(f).encode() for f in folder.rglob("*") if f.is_file()}
    for who in erased:
        for word, value in traces[who].items():
            holders = [f.name for f, text in content.items() if value in text]
            assert not holders, (who, word, holders)
    kept = [v for who in sorted(still_there)[:3] for v in traces[who].values()]
    assert not kept or any(value in text for value in kept for text in content.values()), "the search works"


def files(life: Life) -> None:
    """The catalog and the files tell the same: what is live is there, and nothing else after a purge."""
    run.purge(life.workspace, run.PurgeOptions())
    live: dict[str, Any] = {}
    for row in life.workspace.query(
        "SELECT model_id, number, weights, state FROM model_version ORDER BY number"
    ):
        live[row["model_id"]] = row
    kept = {life.workspace.root / row["weights"] for row in live.values()}
    assert all(row["state"] == "current" for row in live.values())
    assert {f for f in (life.workspace.root / "models").rglob("*") if f.is_file()} == kept
    wanted = {f"{row.id}.json" for row in life.rows() if row.id not in life.refused}
    assert {f.name for f in life.workspace.certificates.iterdir()} == wanted
    assert run.dry_run(life.workspace, run.PurgeOptions())["leftovers"] == []
