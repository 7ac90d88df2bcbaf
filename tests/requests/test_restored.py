# SPDX-License-Identifier: Apache-2.0
"""A workspace restored from a backup: it cannot hide what was done since, and is brought up to date."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from requests_kit import PEOPLE, Clock, Paper, add_people, in_child, told_once

from expunge.catalog.dataset_store import get_version, load_samples
from expunge.datasets.sanitized import export_data
from expunge.erasure import execution, intake, restoration, scheduler
from expunge.erasure.repair import repair
from expunge.erasure.scheduler import QueueSelection
from expunge.erasure.scope import ErasureRequest
from expunge.errors import InputError
from expunge.evidence import anchor, log, log_writer
from expunge.evidence.key_store import public_path
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.exact.planner import Options
from expunge.models.exports import export
from expunge.models.training import adopt, status, train
from expunge.progress import Progress
from expunge.workspace import Workspace

WHO, LATER = PEOPLE[0], PEOPLE[1]
QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the heads are kept: each test has its own."""
    monkeypatch.setenv(anchor.VARIABLE, str(tmp_path / "outside"))
    return tmp_path / "outside"


def forget(workspace: Workspace, *people: str) -> dict[str, Any]:
    return execution.forget(workspace, ErasureRequest(subjects=people), QUIET, actor="ann")


def back_up(workspace: Workspace) -> Path:
    """A copy of the whole workspace, as a backup has it."""
    workspace._engine.dispose()
    with workspace.session() as session:  # everything out of the write-ahead log
        session.connection().exec_driver_sql("SELECT 1")
    workspace._engine.dispose()
    return Path(shutil.copytree(workspace.root, workspace.root.parent / "backup"))


def restore(workspace: Workspace, backup: Path, *parts: str) -> Workspace:
    """Put the backup, or parts of it, in the place of what is there."""
    workspace._engine.dispose()
    for name in parts or [p.name for p in backup.iterdir()]:
        for old in workspace.root.glob(f"{name}*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for file in backup.glob(f"{name}*"):
            copy: Callable[..., Any] = shutil.copytree if file.is_dir() else shutil.copy2
            copy(file, workspace.root / file.name)
    return Workspace(workspace.root, workspace.clock)


def present(workspace: Workspace) -> set[str]:
    with workspace.session() as session:
        samples = load_samples(session, get_version(session, "shop"), without_erased=True)
    return {who for sample in samples for who in sample.subjects}


@pytest.fixture
def aged(workspace: Workspace, paper: Paper) -> Workspace:
    """Restored from a backup that was made before WHO was forgotten, and after LATER was."""
    paper.judged = True
    forget(workspace, LATER)
    backup = back_up(workspace)
    forget(workspace, WHO)
    assert WHO not in present(workspace)
    old = restore(workspace, backup)
    paper.workspace = old
    assert WHO in present(old)
    return old


STEPS: dict[str, Callable[[Workspace, Path], object]] = {
    "open": lambda w, p: intake.open_request(w, ErasureRequest(subjects=(PEOPLE[3],))),
    "forget": lambda w, p: forget(w, PEOPLE[3]),
    "forget the same": lambda w, p: forget(w, LATER),
    "run": lambda w, p: scheduler.run(w, QueueSelection(every=True), QUIET),
    "repair": lambda w, p: repair(w, (), QUIET),
    "train": lambda w, p: train(
        w, "shop", "n", options=Options("yolo26n.yaml", epochs=1, imgsz=32), progress=QUIET
    ),
    "adopt": lambda w, p: adopt(w, p / "weights.pt", "shop", "n"),
    "export": lambda w, p: export(w, "m", "torchscript"),
    "status": lambda w, p: status(w, p / "weights.pt"),
    "export data": lambda w, p: export_data(w, "shop", p / "tree"),
    "append": lambda w, p: log_writer.append(w, [log.Event("0" * 64, "anything")]),
}


@pytest.mark.parametrize("step", STEPS)
def test_nothing_trains_or_is_published(aged: Workspace, tmp_path: Path, step: str) -> None:
    def state() -> list[Any]:
        rows = [aged.query(f"SELECT * FROM {t}") for t in ("request", "request_event", "model_version")]
        return [rows, (aged.root / "log" / log.ENTRIES).read_bytes(), sorted(tmp_path.iterdir())]

    before = state()
    with pytest.raises(InputError, match="restored from a backup") as caught:
        STEPS[step](aged, tmp_path)
    assert "1 subjects and 2 samples" in caught.value.why
    assert "expunge restored" in caught.value.next_step
    assert WHO not in str(caught.value)
    assert state() == before


@pytest.mark.parametrize("target", ["m", "the request of LATER"])
def test_nothing_is_valid_in_it(aged: Workspace, target: str) -> None:
    if target != "m":
        (target,) = [row["id"] for row in aged.query("SELECT id FROM request")]
    found = verify(aged, target, VerifyOptions(), QUIET)
    assert not found["valid"]
    (check,) = [c for c in found["checks"] if c["name"] == "workspace"]
    assert check["ok"] is False
    assert "restored from a backup" in check["detail"]
    restoration.erase_again(aged, QUIET, "ann")
    again = verify(aged, target, VerifyOptions(), QUIET)
    assert "workspace" not in {c["name"] for c in again["checks"]}, "the negative control"


def test_the_command_line_says_so(aged: Workspace, tmp_path: Path) -> None:
    aged._engine.dispose()
    (tmp_path / "d" / "train" / "a").mkdir(parents=True)
    command = [sys.executable, "-m", "expunge", "data", "add", "more", str(tmp_path / "d"), "--json"]
    done = subprocess.run(
        [*command, "--workspace", str(aged.root)], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    error = json.loads(done.stdout)
    assert "restored from a backup" in error["error"]
    assert "expunge restored" in error["next"]


@pytest.mark.parametrize("parts", [("catalog.sqlite",), ("log",), ("catalog.sqlite", "log", "certificates")])
def test_a_part_of_a_backup(workspace: Workspace, paper: Paper, parts: tuple[str, ...]) -> None:
    forget(workspace, LATER)
    backup = back_up(workspace)
    forget(workspace, WHO)
    old = restore(workspace, backup, *parts)
    paper.workspace = old
    with pytest.raises(InputError, match="restored from a backup"):
        forget(old, PEOPLE[3])


def test_at_another_place(workspace: Workspace, paper: Paper, tmp_path: Path) -> None:
    forget(workspace, LATER)
    backup = back_up(workspace)
    forget(workspace, WHO)
    elsewhere = Workspace(backup.rename(tmp_path / "elsewhere"), workspace.clock)
    with pytest.raises(InputError, match="restored from a backup"):
        forget(elsewhere, PEOPLE[3])


def test_the_newest_backup_goes_on(workspace: Workspace, paper: Paper) -> None:
    forget(workspace, WHO)
    backup = back_up(workspace)
    new = restore(workspace, backup)
    paper.workspace = new
    assert forget(new, LATER)["state"] == "closed"
    assert restoration.restore_status(new)["restored"] is False
    with pytest.raises(InputError, match="was not restored"):
        restoration.erase_again(new, QUIET)


def test_from_before_any_log(workspace: Workspace, paper: Paper) -> None:
    """The backup has neither log nor request: only what is outside knows of them."""
    backup = back_up(workspace)
    forget(workspace, WHO)
    old = restore(workspace, backup)
    shutil.rmtree(old.root / "log", ignore_errors=True)
    paper.workspace = old
    with pytest.raises(InputError) as caught:
        forget(old, LATER)
    assert "Its log has 0 entries" in caught.value.why


def test_who_came_back_is_erased_again(aged: Workspace, tmp_path: Path, outside: Path) -> None:
    lost = anchor.load_state(aged)
    assert lost is not None
    said = restoration.restore_status(aged)
    assert (said["restored"], said["subjects"], said["samples"]) == (True, 1, 2)
    done = restoration.erase_again(aged, QUIET, "ann")
    (outcome,) = done["requests"]
    assert outcome["state"] == "closed"
    assert WHO not in present(aged)
    assert LATER not in present(aged)
    told_once(aged)
    (entry,) = [e.event for e in log.entries_of(aged) if e.event.kind == restoration.RESTORED]
    assert entry.commitment == lost.root
    assert verify(
        None, outcome["certificate"], VerifyOptions(public_path(aged), aged.root / "log" / log.ENTRIES), QUIET
    )["valid"]
    for file in outside.rglob("*"):
        assert file.is_dir() or WHO.encode() not in file.read_bytes()
    assert forget(aged, PEOPLE[3])["state"] == "closed", "all goes on"
    again = forget(aged, WHO)
    assert again["already_erased_by"], "the list was taken over"


def test_whoever_kept_a_later_head_sees_the_fork(workspace: Workspace, paper: Paper, tmp_path: Path) -> None:
    paper.judged = True
    forget(workspace, LATER)
    backup = back_up(workspace)
    forget(workspace, WHO)
    kept = tmp_path / "kept.json"
    shutil.copy(workspace.root / "log" / log.HEAD, kept)
    old = restore(workspace, backup)
    paper.workspace = old
    outcome = restoration.erase_again(old, QUIET)["requests"][0]
    means = VerifyOptions(public_path(old), old.root / "log" / log.ENTRIES, kept)
    checks = {c["name"]: c for c in verify(None, outcome["certificate"], means, QUIET)["checks"]}
    assert checks["consistency"]["ok"] is False
    assert "forked" in checks["consistency"]["detail"] or "missing" in checks["consistency"]["detail"]


def test_killed_while_it_is_brought_up_to_date(aged: Workspace) -> None:
    aged._engine.dispose()

    def job() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restoration, "execute", lambda *args: os.kill(os.getpid(), 9))
            restoration.erase_again(Workspace(aged.root, Clock()), QUIET)

    assert in_child(job) == -9
    again = Workspace(aged.root, aged.clock)
    assert WHO in present(again)
    with pytest.raises(InputError, match="not everything is erased"):
        forget(again, PEOPLE[3])
    assert restoration.erase_again(again, QUIET)["requests"][0]["state"] == "closed"
    assert WHO not in present(again)
    forget(again, PEOPLE[3])


def test_a_new_consent_is_known_outside(workspace: Workspace, paper: Paper) -> None:
    forget(workspace, WHO)
    assert len(anchor.suppression(workspace)) == 5  # the id, two paths, two images
    add_people(workspace, PEOPLE, consent=True)
    anchor.update_suppression(workspace)
    assert anchor.suppression(workspace) == []
    assert anchor.restored_rows(workspace) == []
    forget(workspace, LATER)
    assert len(anchor.suppression(workspace)) == 5


def test_what_cannot_be_read_is_no_clean_slate(aged: Workspace, outside: Path) -> None:
    (state,) = outside.rglob(anchor.STATE)
    state.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        forget(aged, PEOPLE[3])


def test_none_is_kept_where_that_was_said(
    workspace: Workspace, paper: Paper, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(anchor.VARIABLE, anchor.NONE)
    forget(workspace, WHO)
    assert not outside.exists()
