# SPDX-License-Identifier: Apache-2.0
"""What an audit did not accept is not unlearned again every night: it waits for a person, who is told so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from requests_kit import PEOPLE, Clock, told_once

from expunge.catalog import model_store
from expunge.catalog.dataset_store import get_version, load_samples
from expunge.cli.main import cli
from expunge.erasure import execution, intake, scheduler, status
from expunge.erasure.approximate import Approximation
from expunge.erasure.holds import HeldModel, MethodOverride
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.repair import repair
from expunge.erasure.scheduler import QueueRun, QueueSelection
from expunge.erasure.scope import ErasureRequest
from expunge.errors import InputError
from expunge.evidence import certificates, verifier
from expunge.progress import Progress
from expunge.settings import FILE
from expunge.workspace import Workspace

QUIET = Progress(quiet=True)


@dataclass
class Office:
    """A workspace with the adopted model ``old``, which a method of paper unlearns, and a judge of paper.

    Attributes:
        accepted: Methods whose results the judge accepts.
        tried: What was tried, in order.
    """

    workspace: Workspace
    accepted: set[str] = field(default_factory=lambda: {"retrain"})
    tried: list[str] = field(default_factory=list)

    def adopt(self, name: str = "old") -> None:
        with self.workspace.session(write=True) as session:
            version = get_version(session, "shop")
            model_id = model_store.ensure_model(session, name, "detect")
            model_store.publish(session, model_id, **self._columns(version.number, version.dataset_id, name))

    def _columns(self, version: int, dataset: int, name: str, number: int = 1) -> dict[str, Any]:
        return {
            "number": number, "parent": number - 1 or None, "dataset_id": dataset, "dataset_version": version,
            "retained_digest": "ab" * 32, "samples": 1, "subjects": 1, "plan_digest": None, "method": "adopt",
            "guarantee": "none", "state": "current", "digest": f"sha256:{number:064x}",
            "weights": f"models/{name}/{name}-{number}.pt",
            "composition": {"retrain_epochs": 100, "forgotten": []}, "metrics": None, "cost": None,
            "cpu_seconds": 0.0, "request_id": None,
        }  # fmt: skip

    def unlearn(self, approximation: Approximation) -> Any:
        """In the place of the method and its audit."""
        method = approximation.method
        self.tried.append(method)
        verdict = "pass" if method in self.accepted else "fail"
        said = {**dict.fromkeys(certificates.AUDIT_FIELDS), "verdict": verdict, "sound": verdict == "pass"}
        result = SimpleNamespace(
            method=method, verdict=verdict, sound=verdict == "pass", cost=0.1, reasons=("words",),
            warnings=(), unchanged=False, recommendation="", as_json=lambda: said,
        )  # fmt: skip
        return result, None, {"before": None, "after": None}

    def publish(
        self, approximation: Approximation, result: Any, opened: None, accepted: bool, _: None
    ) -> Any:
        name, version = approximation.before.name, approximation.version
        with self.workspace.session(write=True) as session:
            number = model_store.next_number(session, approximation.model_id)
            done = {*approximation.forgotten, *(r for _, r in approximation.erased)} if accepted else set()
            own = {
                "method": result.method, "guarantee": "audited" if accepted else "none",
                "state": "current" if accepted else "interim", "request_id": approximation.request_id,
                "composition": {"retrain_epochs": 100, "forgotten": sorted(done)},
                "judged": {"verdict": result.verdict, "audit": result.as_json()},
            }  # fmt: skip
            columns = self._columns(version.number, version.dataset_id, name, number)
            model_store.publish(session, approximation.model_id, **columns | own)
            return model_store.find_model(session, name)

    def request(self, who: str, method: str = "finetune", **ask: Any) -> str:
        wanted = ErasureRequest(subjects=(who,), method=method, **ask)
        found = intake.open_request(self.workspace, wanted, intake.Opening(actor="ann"))
        intake.approve(self.workspace, found["request"], "bob")
        return str(found["request"])

    def night(self, **chosen: Any) -> QueueRun:
        """What the nightly job does, a day later."""
        assert isinstance(self.workspace.clock, Clock)
        self.workspace.clock.go(days=1)
        return scheduler.run(self.workspace, QueueSelection(**(chosen or {"due": True})), QUIET, "night")

    def noted(self, request: str, reason: str) -> list[dict[str, Any]]:
        events = intake.show(self.workspace, request)["events"]
        return [event["detail"] for event in events if event["reason"] == reason]


@pytest.fixture
def office(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Office:
    office = Office(workspace)
    office.adopt()
    monkeypatch.setattr(Approximation, "_unlearn", lambda self: office.unlearn(self))
    monkeypatch.setattr(Approximation, "_publish", lambda self, *args: office.publish(self, *args))
    return office


def due(office: Office) -> None:
    """Let the deadline come near."""
    assert isinstance(office.workspace.clock, Clock)
    office.workspace.clock.go(days=22)


def test_it_is_held_and_not_tried_again_by_itself(office: Office) -> None:
    request = office.request(PEOPLE[0])
    due(office)
    first = office.night()
    assert first.outcomes[request]["state"] == "running"
    assert first.held == []
    for chosen in ({"due": True}, {"every": True}, {"due": True}):
        (hold,) = office.night(**chosen).held
        assert hold == HeldModel("old", (request,), "finetune", 1)
    assert office.tried == ["finetune"], "once, and not every night"
    assert [d["method"] for d in office.noted(request, "turned-down")] == ["finetune"]
    assert office.noted(request, "held") == [{"model": "old", "attempts": 1}]
    assert told_once(office.workspace), "the log has the events"

    said = hold.as_json()
    assert "did not accept" in said["reason"]
    assert f"expunge request run {request} --method retrain" in said["next"]
    (shown,) = status.list_requests(office.workspace, plan=False)["requests"]
    assert shown["held"] == [said]
    assert shown["overdue"] is False
    assert PEOPLE[0] not in json.dumps([said, shown, office.noted(request, "turned-down")])
    repair(office.workspace, (), QUIET)
    assert status.models_due(office.workspace) == []
    assert office.tried == ["finetune"]


def test_a_person_decides_for_another_method(office: Office) -> None:
    request = office.request(PEOPLE[0])
    due(office)
    office.night()
    done = office.night(ids=(request,), other=MethodOverride(method="retrain"))
    assert office.tried == ["finetune", "retrain"]
    assert done.outcomes[request]["state"] == "closed"
    assert verifier.verify(office.workspace, request, verifier.VerifyOptions(), QUIET)["valid"]
    assert office.night().as_json() == {"requests": [], "batches": [], "failed": [], "held": []}
    assert intake.show(office.workspace, request)["held"] == []


def test_the_same_again_by_name_counts_on(office: Office) -> None:
    request = office.request(PEOPLE[0])
    due(office)
    office.night()
    assert office.night(ids=(request,)).held == []
    assert [hold.attempts for hold in office.night().held] == [2]
    assert office.tried == ["finetune", "finetune"]
    office.accepted.add("finetune")  # as where a library was mended meanwhile
    assert office.night(ids=(request,)).outcomes[request]["state"] == "closed"


def test_as_often_as_the_settings_say(office: Office) -> None:
    (office.workspace.root / FILE).write_text("[audit]\nattempts = 3\n")
    request = office.request(PEOPLE[0])
    due(office)
    held = [len(office.night().held) for _ in range(5)]
    assert held == [0, 0, 0, 1, 1]
    assert office.tried == ["finetune"] * 3
    assert office.noted(request, "held") == [{"model": "old", "attempts": 3}]


def test_one_more_request_is_something_new(office: Office) -> None:
    first = office.request(PEOPLE[0])
    due(office)
    office.night()
    assert office.night().held
    second = office.request(PEOPLE[1])
    ran = office.night(ids=(second,))
    assert ran.held == []
    assert office.tried == ["finetune"] * 2
    due(office)
    (hold,) = office.night().held
    assert hold.requests == (first, second)
    assert office.tried == ["finetune"] * 2, "held again, both together"
    done = office.night(ids=(first,), other=MethodOverride(method="retrain"))
    assert done.outcomes[first]["state"] == "closed"
    assert intake.show(office.workspace, second)["state"] == "closed", "one unlearning for both"


def test_other_models_are_not_held_up(office: Office) -> None:
    office.adopt("sound")
    office.accepted = {"finetune"}
    strict = office.unlearn

    def only_one(approximation: Approximation) -> Any:
        office.accepted = {"finetune"} if approximation.before.name == "sound" else set()
        return strict(approximation)

    office.unlearn = only_one  # type: ignore[method-assign]
    request = office.request(PEOPLE[0])
    due(office)
    entries = {m["model"]: m["accepted"] for m in office.night().outcomes[request]["models"]}
    assert entries == {"old@2": False, "sound@2": True}
    assert [hold.model for hold in office.night().held] == ["old"]
    with office.workspace.session() as session:
        samples = load_samples(session, get_version(session, "shop"), without_erased=True)
    assert PEOPLE[0] not in {who for sample in samples for who in sample.subjects}


def test_what_is_broken_is_no_verdict(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is no judgement: what failed for a reason of its own is taken up again by itself."""
    request = office.request(PEOPLE[0])
    due(office)

    def gone(self: Approximation) -> Any:
        raise InputError("Pictures are gone.", "", "")

    with monkeypatch.context() as patch:
        patch.setattr(Approximation, "_unlearn", gone)
        assert office.night().failed
        assert office.night().failed
    assert office.noted(request, "turned-down") == []
    ran = office.night()
    assert (office.tried, ran.held) == (["finetune"], [])


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (MethodOverride(method="magic"), "no method"),
        (MethodOverride(method="scrub", hyperparameters={"speed": 1}), "no hyper-parameter"),
        (MethodOverride(budget=-1.0), "budget"),
    ],
)
def test_another_way_must_fit(office: Office, other: MethodOverride, what: str) -> None:
    request = office.request(PEOPLE[0])
    with pytest.raises(InputError, match="has not begun"):
        office.night(ids=(request,), other=other)
    office.night(ids=(request,))
    with pytest.raises(InputError, match=what):
        office.night(ids=(request,), other=other)
    assert office.tried == ["finetune"]


def test_another_way_keeps_what_it_does_not_say() -> None:
    said = MethodSettings(budget=2.0, hyperparameters={"epochs": 1}, seed=7)
    other = MethodOverride(accept_no_power=True)
    assert other.instead_of("finetune", said) == (
        "finetune", MethodSettings(budget=2.0, hyperparameters={"epochs": 1}, seed=7, accept_no_power=True),
    )  # fmt: skip
    assert MethodOverride("scrub").instead_of("finetune", said) == (
        "scrub",
        MethodSettings(budget=2.0, seed=7),
    )


def test_the_command_says_what_to_do(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    request = office.request(PEOPLE[0])
    monkeypatch.setattr(Workspace, "open", classmethod(lambda cls, *args: office.workspace))
    command: Callable[..., Any] = CliRunner().invoke
    assert command(cli, ["request", "run", request]).exit_code == 1
    done = command(cli, ["request", "run", "--all", "--json"])
    assert done.exit_code == 1, "somebody has to look"
    assert json.loads(done.stdout)["held"][0]["requests"] == [request]
    assert "HELD" in command(cli, ["request", "run", "--all"]).stdout
    assert "(held)" in command(cli, ["request", "list", "--no-plan"]).stdout
    assert "--method retrain" in command(cli, ["request", "show", request]).stdout.replace("\n", " ")
    assert command(cli, ["request", "run", "--all", "--method", "retrain"]).exit_code == 2
    assert command(cli, ["request", "run", request, "--method", "retrain"]).exit_code == 0
    assert office.tried == ["finetune", "retrain"]


def test_a_forget_by_another_method_is_the_same_decision(office: Office) -> None:
    request = office.request(PEOPLE[0])
    due(office)
    office.night()
    again = execution.forget(office.workspace, ErasureRequest(subjects=(PEOPLE[0],), method="retrain"), QUIET)
    assert again["already_erased_by"] == {PEOPLE[0]: request}
    assert intake.show(office.workspace, request)["state"] == "closed"
