# SPDX-License-Identifier: Apache-2.0
"""The log with crashes and concurrent writers: no event is lost or doubled, and history never changes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from expunge.errors import InputError
from expunge.evidence import key_store, log, log_writer, merkle
from expunge.evidence.key_store import signing_key
from expunge.evidence.offline import check_log
from expunge.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.init(tmp_path)


def event(n: int, kind: str = "opened") -> log.Event:
    return log.Event(hashlib.sha256(str(n).encode()).hexdigest(), kind, f"r-{n:016x}")


def files(workspace: Workspace) -> tuple[Path, Path]:
    return workspace.root / "log" / log.ENTRIES, workspace.root / "log" / log.HEAD


def answers(workspace: Workspace, earlier: bytes | None = None) -> dict[str, bool | None]:
    entries, head = files(workspace)
    found = check_log(
        entries.read_bytes(), head.read_bytes(), earlier, key_store.public_keys(workspace), None
    )
    return {check.name: check.ok for check in found}


def test_an_event_is_appended_once(workspace: Workspace) -> None:
    log_writer.append(workspace, [event(1), event(2)])
    log_writer.append(workspace, [event(2), event(3)])
    log_writer.append(workspace, [])
    assert [e.event.request for e in log.entries_of(workspace)] == [f"r-{n:016x}" for n in (1, 2, 3)]
    assert answers(workspace) == {"log": True, "log: tree head": True, "consistency": None, "witness": None}


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_repaired(workspace: Workspace, cut: int) -> None:
    log_writer.append(workspace, [event(1), event(2)])
    entries, head = files(workspace)
    then = head.read_bytes()
    whole = entries.read_bytes()
    torn = log.line_of(2, event(3))[:-cut]
    entries.write_bytes(whole + torn)
    assert len(log.entries_of(workspace)) == 2
    log_writer.append(workspace, [event(3)])
    assert [e.event.request for e in log.entries_of(workspace)] == [f"r-{n:016x}" for n in (1, 2, 3)]
    assert answers(workspace, then)["consistency"] is True


def test_a_crash_before_the_head_is_signed(workspace: Workspace) -> None:
    """The new entry is reported as unsigned until the next append signs it."""
    log_writer.append(workspace, [event(1)])
    _, head = files(workspace)
    then = head.read_bytes()
    log_writer.append(workspace, [event(2)])
    head.write_bytes(then)
    assert answers(workspace)["log: tree head"] is False
    log_writer.append(workspace, [event(2)])
    assert answers(workspace, then) == {
        "log": True, "log: tree head": True, "consistency": True, "witness": None
    }  # fmt: skip


@pytest.mark.parametrize("what", ["cut", "missing", "not-json"])
def test_damage_in_the_middle_is_never_repaired(workspace: Workspace, what: str) -> None:
    log_writer.append(workspace, [event(n) for n in range(4)])
    entries, _ = files(workspace)
    lines = entries.read_bytes().splitlines(keepends=True)
    lines[1] = {"cut": lines[1][:-9] + b"\n", "missing": b"", "not-json": b"ouch\n"}[what]
    entries.write_bytes(b"".join(lines))
    before = entries.read_bytes()
    with pytest.raises(InputError, match="damaged"):
        log_writer.append(workspace, [event(9)])
    assert entries.read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [
        log.Event("Ann Smith" * 5, "opened"),
        log.Event("0" * 32, "Ann Smith"),
        log.Event("0" * 32, "opened", "images/ann.png"),
        log.Event("0" * 32, "opened", None, "s17"),
        log.Event("0" * 32, "opened", time="yesterday"),
        log.Event("0" * 32, "opened", data={"name": "Ann"}),
        log.Event("0" * 32, log.ROTATED, data={"name": "Ann"}),
    ],
)
def test_personal_data_is_refused(workspace: Workspace, wrong: log.Event) -> None:
    with pytest.raises(log.BrokenLog):
        log_writer.append(workspace, [wrong])
    assert log.entries_of(workspace) == []


def many(root: str, start: int) -> None:
    """Append ten events."""
    for n in range(start, start + 10):
        log_writer.append(Workspace(Path(root)), [event(n)])


def test_concurrent_writers(workspace: Workspace) -> None:
    signing_key(workspace)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=many, args=(str(workspace.root), s)) for s in (0, 5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    requests = sorted(e.event.request or "" for e in log.entries_of(workspace))
    assert requests == [f"r-{n:016x}" for n in range(15)]
    assert answers(workspace)["log: tree head"] is True


class LogMachine(RuleBasedStateMachine):
    """Appends and crashes at any byte; every head that was signed stays a prefix of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.workspace = Workspace.init(self.folder.name)
        self.appended: list[str] = []
        self.heads: list[bytes] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(numbers=st.lists(st.integers(0, 30), min_size=1, max_size=3, unique=True))
    def append(self, numbers: list[int]) -> None:
        new_events = [event(n) for n in numbers if event(n).id not in self.appended]
        log_writer.append(self.workspace, [event(n) for n in numbers])
        self.appended += [e.id for e in new_events]
        self.heads.append(files(self.workspace)[1].read_bytes())

    @rule(number=st.integers(31, 60), data=st.data())
    def crash(self, number: int, data: st.DataObject) -> None:
        """Stop the process while it writes a line, or between the line and the tree head."""
        if event(number).id in self.appended:
            return
        line = log.line_of(len(self.appended), event(number)) + b"\n"
        written = data.draw(st.integers(1, len(line)))
        file = self.workspace.folder("log") / log.ENTRIES
        content = file.read_bytes() if file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # every writer first cuts off an incomplete line
        file.write_bytes(whole + line[:written])
        if written == len(line):
            self.appended.append(event(number).id)

    @precondition(lambda self: self.heads)
    @rule()
    def sign(self) -> None:
        log_writer.append(self.workspace, [])

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        entries = log.entries_of(self.workspace)
        assert [e.event.id for e in entries] == self.appended
        lines = [e.line for e in entries]
        for content in self.heads:
            head = log.parse_head(content)
            assert merkle.tree_hash(lines[: head.size]).hex() == head.root
            proof = merkle.consistency_proof(lines, head.size)
            root = merkle.tree_hash(lines)
            old = bytes.fromhex(head.root)
            assert merkle.verify_consistency(head.size, len(lines), old, root, proof)


LogMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
TestLogMachine = LogMachine.TestCase


def test_a_forked_log_is_found(workspace: Workspace, tmp_path: Path) -> None:
    """Of two histories signed with the same key, an earlier head is consistent with only one."""
    log_writer.append(workspace, [event(1), event(2)])
    entries, head = files(workspace)
    then = head.read_bytes()
    entries.unlink()
    log_writer.append(workspace, [event(1), event(3), event(4)])
    assert answers(workspace)["log: tree head"] is True, "in itself it is consistent"
    assert answers(workspace, then)["consistency"] is False
    assert json.loads(entries.read_text().splitlines()[0])["index"] == 0


def test_only_new_lines_are_parsed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    log_writer.append(workspace, [event(n) for n in range(6)])
    lines = files(workspace)[0].read_bytes().splitlines(keepends=True)
    everything = log.parse(b"".join(lines))
    read: list[int] = []
    whole = log._entry
    monkeypatch.setattr(log, "_entry", lambda index, line: read.append(index) or whole(index, line))
    assert log.parse(b"".join(lines), known=everything[:4]) == everything
    assert read == [4, 5]
    read.clear()
    assert log.parse(b"".join(lines), known=[*everything[:3], everything[4]]) == everything
    assert read == list(range(6)), "another history is read from its beginning"
