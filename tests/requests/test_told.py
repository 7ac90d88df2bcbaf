# SPDX-License-Identifier: Apache-2.0
"""The log is told of each transition when it is durable; once and in order, whoever dies in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from requests_kit import PEOPLE, Clock, Paper, in_child, told_once
from sqlalchemy import update

from expunge.catalog.tables import RequestEventRow
from expunge.erasure import intake, scheduler
from expunge.erasure.intake import Opening
from expunge.erasure.scheduler import QueueSelection
from expunge.erasure.scope import ErasureRequest
from expunge.errors import InputError, StorageError
from expunge.evidence import journal, log, log_writer
from expunge.progress import Progress
from expunge.workspace import Workspace


def open_for(workspace: Workspace, who: str) -> str:
    return str(
        intake.open_request(workspace, ErasureRequest(subjects=(who,)), Opening(actor="ann"))["request"]
    )


def kinds(workspace: Workspace, request: str) -> list[str]:
    return [e.event.kind for e in log.entries_of(workspace) if e.event.request == request]


def test_each_step_is_told_at_once(workspace: Workspace, paper: Paper) -> None:
    clock = workspace.clock
    assert isinstance(clock, Clock)
    first, second = open_for(workspace, PEOPLE[0]), open_for(workspace, PEOPLE[1])
    assert kinds(workspace, first) == ["request-open", "request-scoped"]
    day = clock().date().isoformat()
    intake.extend(workspace, first, "complexity", day)
    assert kinds(workspace, first)[2:] == ["request-noted"]
    intake.approve(workspace, first, "bob")
    assert kinds(workspace, first)[3:] == ["request-approved"]
    intake.refuse(workspace, second, "unfounded", None, None, "bob")
    assert kinds(workspace, second)[2:] == ["request-refused"]
    intake.refuse(workspace, second, None, None, day, "bob")
    assert kinds(workspace, second)[3:] == ["request-closed"]
    scheduler.run(workspace, QueueSelection(every=True), Progress(quiet=True), "bob")
    assert kinds(workspace, first)[4] == "request-running"
    assert kinds(workspace, first)[-1] == "request-closed"
    intake.record_recipient_notice(workspace, first, "a customer")
    assert kinds(workspace, first)[-2:] == ["request-closed", "request-noted"]
    told_once(workspace)


def die(when: str) -> None:
    """Die where the log is to be told, before it is, while it is, or after."""
    append = log_writer.append

    def dying(workspace: Workspace, events: object) -> None:
        if when != "before":
            append(workspace, events)  # type: ignore[arg-type]
        if when == "torn":
            path = workspace.root / "log" / log.ENTRIES
            os.truncate(path, path.stat().st_size - 9)
        os.kill(os.getpid(), signal.SIGKILL)

    log_writer.append = dying


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_killed_between_commit_and_log(workspace: Workspace, paper: Paper, when: str) -> None:
    """The step stands; the next command that changes something tells it first."""
    known = open_for(workspace, PEOPLE[0])
    steps: list[Callable[[Workspace], object]] = [
        lambda w: open_for(w, PEOPLE[1]),
        lambda w: intake.extend(w, known, "number", w.clock().date().isoformat()),
        lambda w: intake.approve(w, known, "bob"),
        lambda w: intake.refuse(w, known, "unfounded", None, None, "bob"),
    ]
    workspace._engine.dispose()
    for step in steps:

        def job(step: Callable[[Workspace], object] = step) -> None:
            die(when)
            step(Workspace(workspace.root, Clock()))

        assert in_child(job) == -signal.SIGKILL
    again = Workspace(workspace.root, Clock())
    before = len(again.query("SELECT id FROM request_event"))
    last = open_for(again, PEOPLE[2])
    assert told_once(again) == before + 2
    assert kinds(again, known) == [
        "request-open", "request-scoped", "request-noted", "request-approved", "request-refused",
    ]  # fmt: skip
    assert [e.event.request for e in log.entries_of(again)][-1] == last


def test_an_old_catalog_tells_what_it_never_told(workspace: Workspace, paper: Paper) -> None:
    """Marks are a help, no truth: where they are lost, nothing is told twice."""
    request = open_for(workspace, PEOPLE[0])
    with workspace.session(write=True) as session:
        session.execute(update(RequestEventRow).values(told=False))
    lines = (workspace.root / "log" / log.ENTRIES).read_bytes()
    assert journal.flush(workspace) == 2
    assert (workspace.root / "log" / log.ENTRIES).read_bytes() == lines
    assert journal.flush(workspace) == 0
    intake.approve(workspace, request, "bob")
    told_once(workspace)


def test_a_full_disk_loses_nothing(
    workspace: Workspace, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise StorageError("The log could not be written.", "No space left on device.")

    request = open_for(workspace, PEOPLE[0])
    with monkeypatch.context() as patch:
        patch.setattr(log_writer, "append", full)
        with pytest.raises(StorageError, match="recorded") as caught:
            intake.approve(workspace, request, "bob")
    assert "do not repeat" in caught.value.next_step
    assert intake.show(workspace, request)["state"] == "approved"
    open_for(workspace, PEOPLE[1])
    told_once(workspace)


def test_a_damaged_log_stops_before_anything_changes(workspace: Workspace, paper: Paper) -> None:
    request = open_for(workspace, PEOPLE[0])
    path: Path = workspace.root / "log" / log.ENTRIES
    path.write_bytes(path.read_bytes().replace(b"request-open", b"request-0pen"))
    for step in (
        lambda: intake.approve(workspace, request, "bob"),
        lambda: open_for(workspace, PEOPLE[1]),
    ):
        with pytest.raises(InputError, match="log is damaged"):
            step()
    assert intake.show(workspace, request)["state"] == "scoped"
    assert len(workspace.query("SELECT id FROM request")) == 1
