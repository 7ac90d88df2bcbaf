# SPDX-License-Identifier: Apache-2.0
"""Random lives of requests: whatever is done in whatever order, the record stays lawful and whole."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from requests_kit import PEOPLE, Clock, Paper, add_people, told_once
from sqlalchemy import select

from expunge.catalog.model_store import find_model
from expunge.catalog.request_store import mac
from expunge.catalog.states import EXECUTED_STATES, RUNNING_STATES, TRANSITIONS, WAITING_STATES, State
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.erasure import execution, intake, scheduler
from expunge.erasure.intake import Opening
from expunge.erasure.scope import ErasureRequest
from expunge.errors import ExpungeError, InputError, StorageError
from expunge.progress import Progress
from expunge.workspace import Workspace

who = st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=2, unique=True).map(tuple)
any_request = st.integers(0, 30)
_templates: list[Path] = []


def template() -> Path:
    """A workspace with a data set and two models of paper, made once."""
    if not _templates:
        workspace = Workspace.init(tempfile.mkdtemp(prefix="expunge-machine-"))
        add_people(workspace, PEOPLE)
        workspace.clock = Clock()
        with pytest.MonkeyPatch.context() as patch:
            Paper(workspace).install(patch)
        workspace._engine.dispose()
        _templates.append(workspace.root)
    return _templates[0]


class Office(RuleBasedStateMachine):
    """Two officers, a queue, and a clock that only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="expunge-office-"))
        self.clock = Clock()
        self.workspace = Workspace(Path(shutil.copytree(template(), self.folder / ".expunge")), self.clock)
        self.patch = pytest.MonkeyPatch()
        self.paper = Paper(self.workspace)
        self.paper.replace(self.patch)
        self.ids: list[str] = []
        self.keys: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.seen: dict[str, int] = {}

    def teardown(self) -> None:
        self.patch.undo()
        self.workspace._engine.dispose()
        shutil.rmtree(self.folder)

    def pick(self, number: int) -> str:
        return self.ids[number % len(self.ids)]

    @rule(people=who, key=st.sampled_from(["", "a", "b"]), defer=st.booleans())
    def open(self, people: tuple[str, ...], key: str, defer: bool) -> None:
        ask = ErasureRequest(subjects=people, defer=defer)
        with self.workspace.session() as session:  # a closed request has forgotten its key too
            known = session.scalars(select(RequestRow.key_mac)).all()
        held = {k: v for k, v in self.keys.items() if mac(self.workspace.key, "key", k) in known}
        self.keys = held
        same = self.keys.get(key) == (str(defer), people)
        opening = Opening(key=key or None, actor="ann")
        if key in self.keys and not same:
            with pytest.raises(InputError, match="idempotency key"):
                intake.open_request(self.workspace, ask, opening)
            return
        found = intake.open_request(self.workspace, ask, opening)
        assert found["reused"] == same
        if found["request"] not in self.ids:
            self.ids.append(found["request"])
            if key:
                self.keys[key] = (str(defer), people)

    @precondition(lambda self: self.ids)
    @rule(number=any_request)
    def approve(self, number: int) -> None:
        with contextlib.suppress(InputError):
            intake.approve(self.workspace, self.pick(number), "bob")

    @precondition(lambda self: self.ids)
    @rule(number=any_request, told=st.booleans())
    def refuse(self, number: int, told: bool) -> None:
        day = self.clock().date().isoformat() if told else None
        with contextlib.suppress(InputError):
            intake.refuse(self.workspace, self.pick(number), "unfounded", "words", day, "bob")

    @precondition(lambda self: self.ids)
    @rule(number=any_request)
    def extend(self, number: int) -> None:
        with contextlib.suppress(InputError):
            intake.extend(self.workspace, self.pick(number), "complexity", self.clock().date().isoformat())

    @rule(days=st.integers(0, 12))
    def wait(self, days: int) -> None:
        self.clock.go(days=days, seconds=1)

    @rule(due=st.booleans())
    def run(self, due: bool) -> None:
        ran = scheduler.run(
            self.workspace, scheduler.QueueSelection(due=due, every=not due), Progress(quiet=True), "bob"
        )
        assert all("nothing to train on" in f.error.what for f in ran.failed) or not ran.failed
        if not due:
            wait = {i for i, outcome in ran.outcomes.items() if outcome["state"] == "running"}
            left = {row.id: row for row in self.rows() if row.state in (*RUNNING_STATES, *EXECUTED_STATES)}
            assert all(left[i].selection["defer"] for i in wait), "only a repair that may wait is left"
            assert set(left) <= {i for f in ran.failed for i in f.ids} | wait

    @rule()
    def run_fails(self) -> None:
        def broken(*args: object) -> None:
            raise StorageError("The disk is full.")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execution, "_executions", broken)
            scheduler.run(self.workspace, scheduler.QueueSelection(every=True), Progress(quiet=True), "bob")

    @rule(people=who)
    def forget(self, people: tuple[str, ...]) -> None:
        with contextlib.suppress(ExpungeError):
            outcome = execution.forget(
                self.workspace, ErasureRequest(subjects=people), Progress(quiet=True), actor="ann"
            )
            if outcome["request"] not in self.ids:
                self.ids.append(outcome["request"])

    def rows(self) -> list[RequestRow]:
        with self.workspace.session() as session:
            rows = list(session.query(RequestRow))
            session.expunge_all()
        return rows

    @invariant()
    def every_record_is_whole(self) -> None:
        with self.workspace.session() as session:
            rows = {row.id: row for row in session.query(RequestRow)}
            events = list(session.query(RequestEventRow).order_by(RequestEventRow.id))
            session.expunge_all()
        assert set(rows) == set(self.ids)
        for request_id, row in rows.items():
            mine = [e for e in events if e.request_id == request_id]
            assert mine[0].source is None
            assert (mine[0].target, mine[-1].target) == ("open", row.state)
            for before, after in itertools.pairwise(mine):
                assert before.target == after.source, "no event is lost or doubled"
                assert before.at <= after.at
                assert after.source == after.target or State(after.target) in TRANSITIONS[State(after.source)]
            assert len(mine) >= self.seen.get(request_id, 0), "nothing is taken back"
            self.seen[request_id] = len(mine)
            kept = "asked" in row.selection
            assert kept == (row.state != State.CLOSED)
            if row.state in WAITING_STATES or row.state == State.REFUSED:
                assert row.version_after is None
            if row.state in EXECUTED_STATES or (row.state == State.CLOSED and not row.refusal):
                assert (self.workspace.certificates / f"{request_id}.json").is_file()
        self.nothing_personal(events)

    def nothing_personal(self, events: list[RequestEventRow]) -> None:
        text = json.dumps([[e.actor, e.reason, e.detail] for e in events])
        assert not any(person in text for person in PEOPLE)
        assert "words" not in text

    @invariant()
    def the_log_knows_it_all(self) -> None:
        told_once(self.workspace)

    @invariant()
    def closed_means_forgotten(self) -> None:
        """Where every request is closed, the models are those of the retained samples."""
        if self.ids and all(row.state == State.CLOSED for row in self.rows()):
            with self.workspace.session() as session:
                newest = [find_model(session, name) for name in self.paper.names]
            assert {p.digest for p in newest} == {self.paper.digest()}


Office.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestOffice = Office.TestCase
