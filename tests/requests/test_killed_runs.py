# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at every transition and at every commit; and two processes that run the queue at once."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from pathlib import Path

import pytest
from requests_kit import PEOPLE, Clock, Paper, in_child, told_once

from expunge.catalog import request_store
from expunge.catalog.ancestry import trained_on
from expunge.catalog.model_store import model_versions
from expunge.catalog.states import TRANSITIONS, State
from expunge.catalog.tables import RequestEventRow
from expunge.erasure import intake, scheduler
from expunge.erasure.intake import Opening
from expunge.erasure.scheduler import QueueSelection
from expunge.erasure.scope import ErasureRequest
from expunge.evidence import log_writer
from expunge.evidence.certificates import predicate_of
from expunge.progress import Progress
from expunge.workspace import Workspace


def prepare(workspace: Workspace) -> None:
    """Three requests: two that are approved, one of which waits for its repair."""
    for who, defer in ((PEOPLE[0], False), (PEOPLE[1], False), (PEOPLE[2], True)):
        found = intake.open_request(
            workspace, ErasureRequest(subjects=(who,), defer=defer), Opening(actor="ann")
        )
        intake.approve(workspace, found["request"], "bob")
    workspace._engine.dispose()


def run_all(root: Path) -> None:
    """Run the queue, as a new process would."""
    workspace = Workspace(root, Clock())
    with pytest.MonkeyPatch.context() as patch:
        Paper(workspace).replace(patch)
        for _ in range(2):  # the second finishes what the first left to be repaired later
            scheduler.run(workspace, QueueSelection(every=True), Progress(quiet=True), "bob")
    workspace._engine.dispose()


def dying(root: Path, nth: int, where: str) -> None:
    """Run the queue, and die at the nth event, after the nth commit, or about the nth entry into the log."""
    left = [nth]

    def step(*args: object, **kwargs: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if where == "event":
        original = request_store._record

        def record(*args: object, **kwargs: object) -> None:
            original(*args, **kwargs)  # type: ignore[arg-type]
            step()

        request_store._record = record
    elif where in ("before the log", "after the log"):
        append = log_writer.append

        def appending(*args: object) -> None:
            if where == "before the log":
                step()
            append(*args)  # type: ignore[arg-type]
            if where == "after the log":
                step()

        log_writer.append = appending
    else:
        from sqlalchemy import event
        from sqlalchemy.orm import Session

        event.listen(Session, "after_commit", step)
    run_all(root)


def story(root: Path) -> tuple[dict[int, list[str]], str, int]:
    """The steps of each request (but for being resumed), the model's digest, and the number of versions."""
    workspace = Workspace(root, Clock())
    steps: dict[int, list[str]] = {}
    with workspace.session() as session:
        events = list(session.query(RequestEventRow).order_by(RequestEventRow.id))
        session.expunge_all()
    order = list(dict.fromkeys(e.request_id for e in events))
    for e in events:
        if e.source != e.target and e.target != State.RESUMED:
            steps.setdefault(order.index(e.request_id), []).append(e.target)
        assert e.source is None or e.source == e.target or State(e.target) in TRANSITIONS[State(e.source)]
    versions = workspace.query("SELECT count(*) AS n FROM version")[0]["n"]
    digest = Paper(workspace).newest().digest
    with workspace.session() as session:
        published = {p.digest for p in model_versions(session)}
    for request in order:
        statement = predicate_of(workspace.certificates / f"{request}.json")
        assert {m["digest"] for m in statement["models"]} <= published
        assert statement["state"] == "closed"
    assert told_once(workspace) == len(events)
    workspace._engine.dispose()
    return steps, digest, versions


@pytest.fixture
def prepared(workspace: Workspace, paper: Paper) -> Path:
    """A workspace whose queue has to be run."""
    prepare(workspace)
    return workspace.root


@pytest.mark.parametrize(
    ("where", "every"),
    [
        ("event", 5),
        ("before the log", 5),
        ("after the log", 5),
        pytest.param("before the log", 1, marks=pytest.mark.slow),
        pytest.param("after the log", 1, marks=pytest.mark.slow),
        pytest.param("event", 1, marks=pytest.mark.slow),
        pytest.param("commit", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_at_every_transition(prepared: Path, tmp_path: Path, where: str, every: int) -> None:
    whole = shutil.copytree(prepared, tmp_path / "whole" / ".expunge")
    run_all(Path(whole))
    wanted = story(Path(whole))
    assert all(steps[-1] == "closed" for steps in wanted[0].values())
    deaths = 0
    for nth in range(min(every, 2), 100, every):  # with every fifth, the last is among them
        root = Path(shutil.copytree(prepared, tmp_path / str(nth) / ".expunge"))
        code = in_child(lambda root=root, nth=nth: dying(root, nth, where))
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
        deaths += 1
        assert in_child(lambda root=root: run_all(root)) == 0
        assert story(root) == wanted, (where, nth)
    assert deaths * every >= 12, "there are so many moments to die at"


def test_two_at_once(prepared: Path, tmp_path: Path) -> None:
    """Neither executes what the other does: one version and one way through the states for each request."""
    whole = Path(shutil.copytree(prepared, tmp_path / "whole" / ".expunge"))
    run_all(whole)
    wanted = story(whole)
    for attempt in range(2):
        root = Path(shutil.copytree(prepared, tmp_path / f"{attempt}" / ".expunge"))
        pids = []
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                try:
                    run_all(root)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            pids.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
        run_all(root)
        assert story(root) == wanted


def test_a_version_published_between_two_reads_is_left_to_the_next(prepared: Path) -> None:
    """Reads of one session see what other processes commit in between."""
    with Workspace(prepared, Clock()).session() as session:
        assert model_versions(session)
        assert trained_on(session, {}) == {}
