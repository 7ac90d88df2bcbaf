# SPDX-License-Identifier: Apache-2.0
"""Long work outlives the server, and a worker that is killed; it is followed as it goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from desk_kit import Desk
from requests_kit import PEOPLE

from expunge.erasure import intake
from expunge.erasure.scope import ErasureRequest
from expunge.errors import BusyError, StorageError
from expunge.web.api import jobs
from expunge.web.auth.roles import Role
from expunge.web.jobs import job_store, supervisor, worker
from expunge.web.jobs.supervisor import Supervisor
from expunge.workspace import Workspace

API = "/api/v1"
SECONDS = 120  # a loaded machine starts a process slowly


@pytest.fixture
def bare(workspace: Workspace) -> Workspace:
    """The same workspace without models, under the machine's own clock: an erasure of data alone is quick."""
    return Workspace(workspace.root)


def approved(workspace: Workspace, person: str) -> str:
    """A request that may run."""
    request: str = intake.open_request(workspace, ErasureRequest(subjects=(person,)))["request"]
    intake.approve(workspace, request)
    return request


def until(condition: Any) -> None:
    """Wait for another process."""
    tick = threading.Event()
    for _ in range(SECONDS * 10):
        if condition():
            return
        tick.wait(0.1)
    raise AssertionError("it never came")


def taken(workspace: Workspace, slot: int) -> bool:
    return not supervisor.is_free(workspace, slot)


def test_a_worker_does_what_waits_and_ends(bare: Workspace) -> None:
    requests = [approved(bare, PEOPLE[i]) for i in range(2)]
    made = [job_store.submit(bare, job_store.RUN, {"requests": [request]}, "ann") for request in requests]
    other = job_store.submit(bare, job_store.VERIFY, {"target": requests[0], "replay": False}, "ann")
    process = supervisor.start_worker(bare, 0)
    assert process.wait(SECONDS) == 0
    done = [job_store.find(bare, job.id) for job in made]
    assert [job.state for job in done] == ["done", "done"]
    assert [job.attempts for job in done] == [1, 1]
    assert done[0].result == {
        "requests": [{"request": requests[0], "state": "closed", "originals_left": 0, "models": []}],
        "gave_way": [],
    }
    assert intake.show(bare, requests[0])["events"][-1]["to"] == "closed"
    assert job_store.find(bare, other.id).state == "queued", "that is for another slot"


def test_the_server_is_killed_and_the_job_ends(bare: Workspace) -> None:
    request = approved(bare, PEOPLE[0])
    desk = Desk(bare)
    program = desk.bearer(Role.ENGINEER)
    server = subprocess.Popen(
        [sys.executable, "-m", "expunge", "serve", "--port", "0", "--workspace", str(bare.root)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stderr is not None
    address = server.stderr.readline().split()[-1]
    headers = {"Authorization": program.headers["Authorization"]}

    def is_up() -> bool:
        try:
            return httpx.get(f"{address}{API}/me", headers=headers).status_code == 200
        except httpx.TransportError:
            return False

    until(is_up)
    answer = httpx.post(f"{address}{API}/requests/{request}/run", headers=headers)
    assert answer.status_code == 202
    until(lambda: taken(bare, 0))  # a worker began
    server.send_signal(signal.SIGKILL)
    server.wait(SECONDS)
    until(lambda: job_store.find(bare, answer.json()["id"]).ended)
    assert job_store.find(bare, answer.json()["id"]).state == "done"
    assert intake.show(bare, request)["state"] == "closed"
    until(lambda: not taken(bare, 0))


KILLED = """
import os, signal, sys
from pathlib import Path
import expunge.erasure.execution
from expunge.web.jobs import worker
def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
expunge.erasure.execution.close_request = die  # after the erasure, before the certificate
worker.main(sys.argv[1:])
"""


def test_a_worker_is_killed_and_the_next_one_finishes(bare: Workspace) -> None:
    request = approved(bare, PEOPLE[0])
    job = job_store.submit(bare, job_store.RUN, {"requests": [request]}, "ann")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(bare.root), "0"], timeout=SECONDS)
    assert killed.returncode == -signal.SIGKILL
    left = job_store.find(bare, job.id)
    assert (left.state, left.attempts) == ("running", 1)
    assert intake.show(bare, request)["state"] == "running"
    care = Supervisor(bare)
    care.tend()
    assert len(care._children) == 1, "one worker for one job, though two slots could take it"
    assert care._children[0].wait(SECONDS) == 0
    done = job_store.find(bare, job.id)
    assert (done.state, done.attempts, done.error) == ("done", 2, None)
    shown = intake.show(bare, request)
    assert shown["state"] == "closed"
    assert [e["to"] for e in shown["events"]].count("resumed") == 1
    care.tend()
    assert care._children == [], "nothing is left to do"


def test_a_job_whose_workers_die_is_given_up_with_a_reason(workspace: Workspace) -> None:
    job = job_store.submit(workspace, job_store.RUN_DUE, {}, "ann")
    for attempt in range(1, job_store.MAX_ATTEMPTS + 1):
        with workspace.session(write=True) as session:
            claimed = job_store.claim(session, 1, 99, workspace.clock())
            assert claimed is not None
            assert claimed.attempts == attempt
            assert job_store.claim(session, 0, 98, workspace.clock()) is None, "it has a worker"
        with workspace.session(write=True) as session:
            job_store.recover_jobs(session, 0, workspace.clock())  # another slot's worker has no part in it
            assert job_store.find(workspace, job.id).state == "running"
            job_store.recover_jobs(session, 1, workspace.clock())
    given_up = job_store.find(workspace, job.id)
    assert given_up.state == "failed"
    assert given_up.error == job_store.CRASHED


def test_each_slot_has_one_worker(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    job_store.submit(workspace, job_store.RUN_DUE, {}, "ann")
    monkeypatch.setattr(worker, "START_SECONDS", 0.0)
    handle = supervisor.take_slot(workspace, 0)
    assert handle is not None
    assert worker.main([str(workspace.root), "0"]) == 0
    assert job_store.page(workspace)[0].state == "queued"
    os.close(handle)
    assert worker.main([str(workspace.root), "0"]) == 0
    assert job_store.page(workspace)[0].state == "done"


def test_workers_are_started_for_what_waits(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Process:
        def poll(self) -> int:
            return 0

    def start(_: Workspace, slot: int) -> Process:
        started.append(slot)
        return Process()

    monkeypatch.setattr(supervisor, "start_worker", start)
    care = Supervisor(workspace)
    care.tend()
    assert started == []
    job_store.submit(workspace, job_store.RUN_DUE, {}, "ann")
    job_store.submit(workspace, job_store.VERIFY, {"target": "m@1"}, "ann")
    care.tend()
    assert started == [0, 2]
    job_store.submit(workspace, job_store.RUN_DUE, {}, "ann")
    started.clear()
    care.tend()
    assert started == [0, 1, 2], "two erasures at once: the second makes a repair of the first give way"
    handle = supervisor.take_slot(workspace, 0)
    started.clear()
    care.tend()
    assert started == [1, 2]
    assert handle is not None
    os.close(handle)


def test_what_another_process_holds_is_waited_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BUSY_PAUSE_SECONDS", 0.0)
    job = claimed(workspace)
    calls: list[int] = []

    def work(*_: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) < 3:
            raise BusyError("The model 'm' is being changed.", "", "")
        return {"fine": True}

    worker.run_job(workspace, job, work)
    assert len(calls) == 3
    assert job_store.find(workspace, job.id).result == {"fine": True}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StorageError("The disk is full.", "It is.", "Make room."), "The disk is full."),
        (ValueError("person-0 is in it"), "Unexpected ValueError."),
    ],
)
def test_how_a_job_fails_is_told(workspace: Workspace, error: Exception, told: str) -> None:
    job = claimed(workspace)

    def work(*_: Any) -> dict[str, Any]:
        raise error

    worker.run_job(workspace, job, work)
    failed = job_store.find(workspace, job.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["error"] == told
    assert "person-0" not in str(failed)


def claimed(workspace: Workspace) -> job_store.Job:
    """A job that this process has."""
    job_store.submit(workspace, job_store.RUN_DUE, {}, "ann")
    with workspace.session(write=True) as session:
        job = job_store.claim(session, 0, os.getpid(), workspace.clock())
    assert job is not None
    return job


def test_progress_is_written_with_the_time_left(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.01)
    job = claimed(workspace)
    seen: list[Any] = []

    def work(_: Workspace, mine: job_store.Job, progress: worker.StoredProgress) -> dict[str, Any]:
        progress.say("published m@2")
        progress.begin("repairing m", 10)
        progress.add(4)
        until(lambda: job_store.find(workspace, mine.id).progress)
        seen.append(job_store.find(workspace, mine.id).progress)
        progress.end()
        return {}

    worker.run_job(workspace, job, work)
    told = seen[0]
    assert (told["line"], told["label"], told["done"], told["total"]) == (
        "published m@2",
        "repairing m",
        4,
        10,
    )
    assert told["seconds_left"] >= 0


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream."""
    found = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_job_is_followed_to_its_end(
    desk: Desk, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.001)
    job = claimed(workspace)
    steps = iter(["half", "half", "end"])
    really = job_store.find

    def look(served: Workspace, job_id: str) -> job_store.Job:
        step = next(steps, None)
        with served.session(write=True) as session:
            if step == "half":
                job_store.record_heartbeat(session, job_id, served.clock(), {"done": 5, "total": 10})
            elif step == "end":
                job_store.finish(session, job_id, served.clock(), {"requests": []})
        return really(served, job_id)

    monkeypatch.setattr(job_store, "find", look)
    answer = desk.signed_in(Role.VIEWER).get(f"{API}/jobs/{job.id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    assert [name for name, _ in told] == ["progress", "end"]
    assert told[0][1]["progress"] == {"done": 5, "total": 10}
    assert told[1][1]["state"] == "done"


def test_jobs_are_listed_in_pages(desk: Desk, workspace: Workspace) -> None:
    made = [job_store.submit(workspace, job_store.RUN_DUE, {}, "ann").id for _ in range(5)]
    client = desk.signed_in(Role.VIEWER)
    whole = client.get(f"{API}/jobs").json()["items"]
    assert {job["id"] for job in whole} == set(made)
    found, cursor = [], None
    while len(found) < 5:
        page = client.get(f"{API}/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += page["items"]
        cursor = page["next"]
    assert found == whole
    assert cursor is None
    assert client.get(f"{API}/jobs", params={"state": "done"}).json()["items"] == []
    assert client.get(f"{API}/jobs", params={"state": "odd"}).status_code == 422


def test_the_jobs_of_a_request(workspace: Workspace) -> None:
    request, other = "r-0123456789abcdef", "r-fedcba9876543210"
    mine = [
        job_store.submit(workspace, job_store.RUN, {"requests": [other, request]}, "ann"),
        job_store.submit(workspace, job_store.AUDIT, {"model": "m", "request": request}, "ann"),
        job_store.submit(workspace, job_store.VERIFY, {"target": request, "replay": True}, "ann"),
    ]
    job_store.submit(workspace, job_store.RUN_DUE, {}, "ann")
    found = job_store.of_request(workspace, request)
    assert {job.id for job in found} == {job.id for job in mine}
    assert [job.kind for job in job_store.of_request(workspace, other)] == ["run"]
    assert job_store.of_request(workspace, "%") == []


def test_what_cannot_run_makes_no_job(desk: Desk, workspace: Workspace) -> None:
    engineer = desk.signed_in(Role.ENGINEER)
    request = intake.open_request(workspace, ErasureRequest(subjects=(PEOPLE[0],)))["request"]
    for body in ({"kind": "run", "requests": [request]}, {"kind": "run", "requests": []}, {"kind": "shell"}):
        assert engineer.post(f"{API}/jobs", json=body).status_code in (409, 422)
    assert engineer.post(f"{API}/audits", json={"model": "x", "request": request}).status_code == 404
    assert engineer.post(f"{API}/verifications", json={"target": "../x"}).status_code == 422
    assert job_store.page(workspace) == []


def test_a_verification_is_a_job(desk: Desk, workspace: Workspace) -> None:
    engineer = desk.signed_in(Role.ENGINEER)
    job = engineer.post(f"{API}/verifications", json={"target": "m@1", "replay": True}).json()
    with workspace.session(write=True) as session:
        mine = job_store.claim(session, 2, os.getpid(), workspace.clock())
    assert mine is not None
    worker.run_job(workspace, mine)
    done = engineer.get(f"{API}/jobs/{job['id']}").json()
    assert done["state"] == "done"
    assert {"name": "m@1: catalog", "ok": True, "detail": "the catalog states the same digest"} in done[
        "result"
    ]["checks"]


def test_the_workers_folder_is_its_owners(workspace: Workspace) -> None:
    file = supervisor.lock_file(workspace, 0)
    assert Path(file).parent.stat().st_mode & 0o077 == 0
