# SPDX-License-Identifier: Apache-2.0
"""Running the queue: together, in time, each with its own evidence, and one that fails holds up nobody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from requests_kit import PEOPLE, Clock, Paper, add_people

from expunge.catalog.dataset_store import get_version
from expunge.erasure import execution, intake, scheduler, status
from expunge.erasure.closing import close_request
from expunge.erasure.intake import Opening
from expunge.erasure.scheduler import QueueRun, QueueSelection
from expunge.erasure.scope import ErasureRequest
from expunge.erasure.workspace import Workspace
from expunge.errors import InputError, StorageError
from expunge.evidence.certificates import predicate_of
from expunge.progress import Progress


def approved(workspace: Workspace, *subjects: str, **ask: Any) -> str:
    """Open and approve a request; returns its id."""
    opening = Opening(received=ask.pop("received", None))
    found = intake.open_request(workspace, ErasureRequest(subjects=subjects, **ask), opening)
    intake.approve(workspace, found["request"])
    return str(found["request"])


def run(workspace: Workspace, **chosen: Any) -> QueueRun:
    return scheduler.run(workspace, QueueSelection(**(chosen or {"every": True})), Progress(quiet=True))


def states(workspace: Workspace) -> dict[str, str]:
    return {row["id"]: row["state"] for row in workspace.query("SELECT id, state FROM request")}


def steps(workspace: Workspace, request_id: str) -> list[str]:
    """The states through which a request went."""
    events = intake.show(workspace, request_id)["events"]
    return [event["to"] for event in events if event["from"] != event["to"]]


WHOLE = ["open", "scoped", "approved", "running", "executed", "audited", "certified", "closed"]


def test_together_is_one_training_and_each_has_its_certificate(workspace: Workspace, paper: Paper) -> None:
    requests = [approved(workspace, who) for who in PEOPLE[:3]]
    before = paper.trainings
    ran = run(workspace)
    assert paper.trainings == before + 2, "one for each model"
    assert [b["requests"] for b in ran.as_json()["batches"]] == [requests]
    assert set(states(workspace).values()) == {"closed"}
    with workspace.session() as session:
        assert get_version(session, "shop").number == 4, "a version for each request"
    digest = paper.newest().digest
    for number, request in enumerate(requests, 2):
        assert steps(workspace, request) == WHOLE
        statement = predicate_of(workspace.certificates / f"{request}.json")
        assert statement["removed"] == {"samples": 2, "subjects": 1}
        assert statement["dataset"] == {"before": f"shop@{number - 1}", "after": f"shop@{number}"}
        assert [m["digest"] for m in statement["models"]] == [digest, digest]
        told = [
            e["detail"]["model"] for e in intake.show(workspace, request)["events"] if e["reason"] == "model"
        ]
        assert told == ["m@2", "z@2"], "executed, per model"
    assert run(workspace).outcomes == {}


def test_any_order_and_any_batching_gives_one_digest(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for name, batches in {
        "together": [PEOPLE[:3]],
        "apart": [PEOPLE[:1], PEOPLE[1:2], PEOPLE[2:3]],
        "permuted": [PEOPLE[2:3], PEOPLE[:2]],
    }.items():
        workspace = Workspace(Path(shutil.copytree(template, tmp_path / name)), Clock())
        paper = Paper(workspace)
        paper.install(monkeypatch)
        for people in batches:
            for who in people:
                approved(workspace, who, defer=name == "permuted")
            run(workspace)
        run(workspace)
        assert set(states(workspace).values()) == {"closed"}
        digests.add(paper.newest().digest)
    assert len(digests) == 1


def test_only_what_is_due(workspace: Workspace, paper: Paper) -> None:
    early = approved(workspace, PEOPLE[0], received="2026-01-10")  # due on 10 February
    late = approved(workspace, PEOPLE[1])  # due on 28 February
    assert run(workspace, due=True).outcomes == {}
    assert isinstance(workspace.clock, Clock)
    workspace.clock.go(days=3)  # 3 February: a week is left for the first
    assert list(run(workspace, due=True).outcomes) == [early]
    assert states(workspace) == {early: "closed", late: "approved"}
    intake.extend(workspace, late, "number", "2026-02-02")
    workspace.clock.go(days=20)
    assert run(workspace, due=True).outcomes == {}, "it was put off"
    workspace.clock.go(days=59)
    assert list(run(workspace, due=True).outcomes) == [late]


def test_a_repair_may_wait_until_it_is_due(workspace: Workspace, paper: Paper) -> None:
    request = approved(workspace, PEOPLE[0], defer=True)
    assert run(workspace, ids=(request,)).outcomes[request]["state"] == "running"
    assert run(workspace, due=True).outcomes == {}
    assert status.models_due(workspace) == []
    assert isinstance(workspace.clock, Clock)
    workspace.clock.go(days=21)
    assert status.models_due(workspace) == ["m", "z"]
    assert run(workspace, due=True).outcomes[request]["state"] == "closed"
    assert steps(workspace, request) == WHOLE, "it waited; nothing was cut short"


def test_overlapping_requests(workspace: Workspace, paper: Paper) -> None:
    """What the first took is told by the second, which still gets its own certificate."""
    first = approved(workspace, PEOPLE[0])
    second = approved(workspace, PEOPLE[0], PEOPLE[1])
    third = approved(workspace, PEOPLE[0])
    ran = run(workspace)
    assert [o["samples"] for o in ran.outcomes.values()] == [2, 2, 0]
    assert ran.outcomes[third]["already_erased_by"] == {PEOPLE[0]: first}
    assert set(states(workspace).values()) == {"closed"}
    assert Path(ran.outcomes[second]["certificate"]).is_file()
    stated = predicate_of(Path(ran.outcomes[third]["certificate"]))
    assert stated["removed"]["samples"] == 0
    assert [m["digest"] for m in stated["models"]] == [paper.newest().digest] * 2, "what it waited for"


def test_what_was_erased_before_waits_for_the_repair(workspace: Workspace, paper: Paper) -> None:
    first, second = approved(workspace, PEOPLE[0], defer=True), approved(workspace, PEOPLE[0])
    run(workspace, ids=(first,))
    ran = run(workspace, ids=(second,))
    assert ran.outcomes[second]["state"] == "running", "the model is not final"
    run(workspace)
    assert set(states(workspace).values()) == {"closed"}


def test_different_ways_are_different_batches(workspace: Workspace, paper: Paper) -> None:
    add_people(workspace, ("other-0",), "other")
    requests = [
        approved(workspace, PEOPLE[0]),
        approved(workspace, PEOPLE[1], method="retrain"),
        approved(workspace, PEOPLE[2]),
        approved(workspace, "other-0"),
    ]
    ran = run(workspace)
    found = [b["requests"] for b in ran.as_json()["batches"]]
    assert sorted(map(sorted, found)) == sorted(
        [sorted([requests[0], requests[2]]), [requests[1]], [requests[3]]]
    )


def test_one_that_does_not_fit_holds_up_nobody(workspace: Workspace, paper: Paper) -> None:
    add_people(workspace, ("only",), "small")
    good, bad = approved(workspace, PEOPLE[0]), approved(workspace, *PEOPLE[1:])
    with workspace.session(write=True) as session:
        session.connection().exec_driver_sql("UPDATE sample SET split = 'val' WHERE path LIKE 'train/free%'")
        session.connection().exec_driver_sql(
            "UPDATE sample SET split = 'val' WHERE path LIKE 'train/person-0%'"
        )
    ran = run(workspace)
    assert states(workspace) == {good: "closed", bad: "failed"}
    (failure,) = ran.as_json()["failed"]
    assert failure["requests"] == [bad]
    assert "leave nothing to train on" in failure["error"]
    assert steps(workspace, bad)[-1] == "failed"
    assert intake.refuse(workspace, bad, "unfounded")["state"] == "refused"


def test_a_failure_is_recorded_and_resumed(
    workspace: Workspace, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = approved(workspace, PEOPLE[0])

    def full(*args: Any) -> None:
        raise StorageError(f"No space for {PEOPLE[0]}.", "", "")

    with monkeypatch.context() as patch:
        patch.setattr(execution, "_executions", full)
        ran = run(workspace)
    assert ran.as_json()["failed"][0]["requests"] == [request]
    failed = intake.show(workspace, request)["events"][-1]
    assert (failed["to"], failed["reason"]) == ("failed", "StorageError")
    assert PEOPLE[0] not in json.dumps(intake.show(workspace, request)["events"])
    with pytest.raises(InputError, match="has begun to be executed"):
        intake.refuse(workspace, request, "unfounded")
    assert run(workspace).outcomes[request]["state"] == "closed"
    assert steps(workspace, request) == [*WHOLE[:4], "failed", "resumed", *WHOLE[4:]]


def test_forget_is_open_approve_and_run(workspace: Workspace, paper: Paper) -> None:
    outcome = execution.forget(
        workspace, ErasureRequest(subjects=(PEOPLE[0],)), Progress(quiet=True), actor="ann"
    )
    assert outcome["state"] == "closed"
    assert steps(workspace, outcome["request"]) == WHOLE
    again = execution.forget(workspace, ErasureRequest(subjects=(PEOPLE[0],)), Progress(quiet=True))
    assert (again["request"], again["models"]) == (outcome["request"], [])
    assert steps(workspace, outcome["request"]) == WHOLE, "nothing happened, so nothing was recorded"


def test_objects_for_python(workspace: Workspace, paper: Paper) -> None:
    request = workspace.request(subjects=[PEOPLE[0]], received="2026-01-30", key="k")
    assert request.record["state"] == "scoped"
    outcome = workspace.run(request)
    assert outcome.certificate.path.is_file()
    assert outcome.result["state"] == "closed"
    again = workspace.run(workspace.request(subjects=[PEOPLE[0]]))
    assert again.result["already_erased_by"] == {PEOPLE[0]: request.id}
    with pytest.raises(InputError, match="nothing to run"):
        workspace.run(request.id)


def test_the_queue_is_listed_by_urgency(workspace: Workspace) -> None:
    late = approved(workspace, PEOPLE[0])
    early = approved(workspace, PEOPLE[1], received="2026-01-03")
    found = status.list_requests(workspace)
    assert [r["request"] for r in found["requests"]] == [early, late]
    assert [r["remind"] for r in found["requests"]] == [True, False]
    run(workspace)
    assert status.list_requests(workspace)["requests"] == []
    assert len(status.list_requests(workspace, every=True)["requests"]) == 2


def test_a_failed_request_is_not_done_by_what_was_there_before(
    workspace: Workspace, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models from before still hold the data: final for others, they are no result for this one."""
    found = intake.open_request(workspace, ErasureRequest(subjects=(PEOPLE[0],)), Opening(actor="ann"))
    intake.approve(workspace, found["request"], "bob")

    def full(*args: object) -> None:
        raise StorageError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(execution, "_executions", full)
        scheduler.run(workspace, QueueSelection(every=True), Progress(quiet=True), "bob")
    assert intake.show(workspace, found["request"])["state"] == "failed"
    outcome = close_request(workspace, found["request"], None)  # as the repair of another model does
    assert outcome["state"] == "running"
    assert [(m["digest"], m["guarantee"], m["interim"]) for m in outcome["models"]] == [
        (None, "none", None)
    ] * 2
    said = predicate_of(workspace.certificates / f"{found['request']}.json")
    assert {m["guarantee"] for m in said["models"]} == {"none"}
    paper.publish("m", None)
    halfway = close_request(workspace, found["request"], None)
    assert [m["digest"] is None for m in halfway["models"]] == [False, True]
    ran = scheduler.run(workspace, QueueSelection(every=True), Progress(quiet=True), "bob")
    assert ran.outcomes[found["request"]]["state"] == "closed"
