# SPDX-License-Identifier: Apache-2.0
"""What an officer does with a request, and what is refused."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from requests_kit import PEOPLE, Clock

from expunge.catalog import clock, request_store
from expunge.catalog.model_store import get_request
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.erasure import execution, intake, scheduler
from expunge.erasure.intake import Opening
from expunge.erasure.scope import ErasureRequest
from expunge.erasure.workspace import Workspace
from expunge.errors import InputError
from expunge.progress import Progress
from expunge.settings import load_settings


def opened(workspace: Workspace, *subjects: str, **opening: str) -> str:
    """Open a request; returns its id."""
    return str(
        intake.open_request(workspace, ErasureRequest(subjects=subjects), Opening(**opening))["request"]
    )


def set_to(workspace: Workspace, text: str) -> None:
    """Write the workspace's settings."""
    (workspace.root / "settings.toml").write_text(text)
    workspace.__dict__.pop("settings", None)


def count(workspace: Workspace) -> int:
    return len(workspace.query("SELECT id FROM request"))


def test_opened_with_its_dates(workspace: Workspace) -> None:
    found = intake.open_request(
        workspace, ErasureRequest(subjects=(PEOPLE[0],)), Opening(ground="consent-withdrawn", actor="ann")
    )
    assert (found["state"], found["samples"], found["subjects"]) == ("scoped", 2, 1)
    assert found["due"] == "2026-02-28T23:59:59+00:00"
    assert found["run_by"] == "2026-02-21T23:59:59+00:00"
    assert found["ground"] == {"name": "consent-withdrawn", "article": "17(1)(b)"}
    assert [(e["from"], e["to"], e["actor"]) for e in found["events"]] == [
        (None, "open", "ann"),
        ("open", "scoped", "ann"),
    ]
    assert workspace.query("SELECT number FROM version") == [{"number": 1}], "nothing is erased"


@pytest.mark.parametrize(
    ("opening", "complaint"),
    [
        ({"received": "2026-02-01"}, "in the future"),
        ({"received": "31.1.2026"}, "not a date"),
        ({"received": "2026-02-30"}, "not a date"),
        ({"due": "2026-01-30"}, "in the past"),
        ({"due": "2026-03-01"}, "later than the law allows"),
        ({"due": "soon"}, "not a date"),
        ({"ground": "whim"}, "not known"),
        ({"actor": " "}, "acting person"),
        ({"actor": "x" * 300}, "acting person"),
        ({"actor": "a\nb"}, "acting person"),
    ],
)
def test_what_does_not_fit_opens_nothing(
    workspace: Workspace, opening: dict[str, str], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        opened(workspace, PEOPLE[0], **opening)
    assert count(workspace) == 0


def test_a_day_counts_as_received_at_its_begin(workspace: Workspace) -> None:
    found = intake.show(workspace, opened(workspace, PEOPLE[0], received="2026-01-31"))
    assert found["received"] == "2026-01-31T00:00:00+00:00"
    late = intake.show(workspace, opened(workspace, PEOPLE[1], received="2025-11-01"))
    assert late["overdue"] is True
    assert late["days_left"] < 0


def test_an_idempotency_key(workspace: Workspace) -> None:
    first = opened(workspace, PEOPLE[0], PEOPLE[1], key="k-1")
    assert opened(workspace, PEOPLE[1], PEOPLE[0], key="k-1") == first, "the order does not matter"
    assert count(workspace) == 1
    with pytest.raises(InputError, match="used for another request"):
        opened(workspace, PEOPLE[0], key="k-1")
    with pytest.raises(InputError, match="used for another request"):
        opened(workspace, PEOPLE[0], PEOPLE[1], key="k-1", ground="objection")
    assert opened(workspace, PEOPLE[0], PEOPLE[1], key="k-2") != first
    intake.approve(workspace, first)
    scheduler.run(workspace, scheduler.QueueSelection(every=True), Progress(quiet=True))
    assert opened(workspace, PEOPLE[0], PEOPLE[1], key="k-1") == first, "also when all of it is gone"


def test_four_eyes(workspace: Workspace) -> None:
    set_to(workspace, "[approval]\nfour_eyes = true\n")
    outcome = execution.forget(
        workspace, ErasureRequest(subjects=(PEOPLE[0],)), Progress(quiet=True), actor="ann"
    )
    assert (outcome["state"], outcome["models"], outcome["certificate"]) == ("scoped", [], None)
    with pytest.raises(InputError, match="cannot approve it as well"):
        intake.approve(workspace, outcome["request"], "ann")
    with pytest.raises(InputError, match="not approved"):
        workspace.run(outcome["request"])
    assert intake.approve(workspace, outcome["request"], "bob")["state"] == "approved"
    assert workspace.run(outcome["request"]).result["state"] == "closed"


def test_refused_and_told(workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[0], note="a word on Person Null")
    with pytest.raises(InputError, match="needs a reason"):
        intake.refuse(workspace, request)
    with pytest.raises(InputError, match="not known"):
        intake.refuse(workspace, request, "no-time")
    found = intake.refuse(workspace, request, "legal-claims", "she sues us", actor="ann")
    assert found["state"] == "refused"
    assert found["refusal"]["article"] == "17(3)(e)"
    assert found["refusal"]["notice_due"] == "2026-02-28T23:59:59+00:00"
    assert "supervisory authority" in found["refusal"]["complaint"]
    with pytest.raises(InputError, match="nothing to run"):
        workspace.run(request)
    with pytest.raises(InputError, match="in the future"):
        intake.refuse(workspace, request, told="2026-02-01")
    with pytest.raises(InputError, match="before the receipt"):
        intake.refuse(workspace, request, told="2026-01-30")
    done = intake.refuse(workspace, request, told="2026-01-31")
    assert (done["state"], done["refusal"]["told"]) == ("closed", "2026-01-31")
    with workspace.session() as session:
        row = get_request(session, request)
        assert "asked" not in row.selection
        assert row.note is None
        told = json.dumps(request_store.events(session, request))
    assert "sues" not in told
    assert PEOPLE[0] not in told


def test_extended_within_the_first_month(workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[0])
    assert isinstance(workspace.clock, Clock)
    workspace.clock.go(days=10)
    for wrong in (
        {"reason": "holidays", "told": "2026-02-05"},
        {"reason": "complexity", "told": "2026-02-05", "months": 3},
        {"reason": "complexity", "told": "2026-02-05", "months": 0},
        {"reason": "complexity", "told": "2026-02-20"},
    ):
        with pytest.raises(InputError):
            intake.extend(workspace, request, **wrong)  # type: ignore[arg-type]
    found = intake.extend(workspace, request, "complexity", "2026-02-10")
    assert found["due"] == "2026-04-30T23:59:59+00:00"
    assert found["events"][-1]["reason"] == "extended"
    with pytest.raises(InputError, match="extended before"):
        intake.extend(workspace, request, "complexity", "2026-02-10")


def test_an_extension_told_too_late(workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[0])
    assert isinstance(workspace.clock, Clock)
    workspace.clock.go(days=30)
    with pytest.raises(InputError, match="within the first month"):
        intake.extend(workspace, request, "number", "2026-03-01")
    assert intake.extend(workspace, request, "number", "2026-02-28", 1)["due"].startswith("2026-03-31")


def test_recipients(workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[0])
    intake.record_recipient_notice(workspace, request, "Label House Ltd")
    found = intake.record_recipient_notice(workspace, request, "Archive", why_not="impossible")
    assert found["recipients"] == [
        {"name": "Label House Ltd", "told": "2026-01-31", "why_not": None},
        {"name": "Archive", "told": None, "why_not": "impossible"},
    ]
    assert "Label House" not in json.dumps(found["events"])


@pytest.mark.parametrize("refused", [True, False])
def test_names_of_recipients_leave_with_the_closing(workspace: Workspace, refused: bool) -> None:
    """Of a refused request as well; who was informed stays, and who knows a name can still record it."""
    request = opened(workspace, PEOPLE[0], recipients=("Label House Ltd", "Archive"), key="k-1")
    intake.record_recipient_notice(workspace, request, "Archive")
    path = workspace.catalog
    assert b"Label House" in _bytes(path)
    if refused:
        intake.refuse(workspace, request, "unfounded", told="2026-01-31")
    else:
        intake.approve(workspace, request, "bob")
        assert workspace.run(request).result["state"] == "closed"
    found = intake.show(workspace, request)
    assert found["state"] == "closed"
    assert [r["told"] for r in found["recipients"]] == [None, "2026-01-31"]
    assert b"Label House" not in _bytes(path)
    assert b"Archive" not in _bytes(path)
    with workspace.session() as session:
        row = get_request(session, request)
        assert (row.key_mac, row.body_mac) == (None, None)
    again = intake.record_recipient_notice(workspace, request, "Label House Ltd")
    assert sorted(r["told"] or "" for r in again["recipients"]) == ["2026-01-31", "2026-01-31"]
    assert b"Label House" not in _bytes(path)


def _bytes(catalog_file: Path) -> bytes:
    files = catalog_file.parent.glob(f"{catalog_file.name}*")
    return b"".join(file.read_bytes() for file in files if file.is_file())


def test_a_clock_that_went_backwards(workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[0])
    assert isinstance(workspace.clock, Clock)
    workspace.clock.go(minutes=-4)
    intake.approve(workspace, request)
    workspace.clock.go(hours=-1)
    for act in (
        lambda: opened(workspace, PEOPLE[1]),
        lambda: intake.refuse(workspace, request, "unfounded"),
        lambda: scheduler.run(workspace, scheduler.QueueSelection(every=True), Progress(quiet=True)),
        lambda: execution.forget(workspace, ErasureRequest(subjects=(PEOPLE[2],)), Progress(quiet=True)),
    ):
        with pytest.raises(InputError, match="clock went backwards"):
            act()
    assert count(workspace) == 1
    set_to(workspace, "[clock]\ntolerance_minutes = 120\n")
    assert opened(workspace, PEOPLE[1])


def test_unknown_and_impossible(workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[0])
    with pytest.raises(InputError, match="no request"):
        intake.approve(workspace, "r-0")
    with pytest.raises(InputError, match="Unknown"):
        opened(workspace, "nobody")
    intake.approve(workspace, request)
    with pytest.raises(InputError, match="cannot become approved"):
        intake.approve(workspace, request)
    with pytest.raises(InputError, match="unclear which requests"):
        scheduler.run(workspace, scheduler.QueueSelection(), Progress(quiet=True))
    workspace.run(request)
    with pytest.raises(InputError, match="has begun to be executed"):
        intake.refuse(workspace, request, "unfounded")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[clock]\nmonth = 1\n", "clock.month"),
        ("[clock]\nmonths = 0\n", "clock.months"),
        ("[clock]\nlead_days = 'a week'\n", "clock.lead_days"),
        ("[clock]\nzone = 'Mars/Olympus'\n", "no time zone"),
        ("[clock\n", "cannot be read"),
    ],
)
def test_settings_that_do_not_fit(workspace: Workspace, text: str, complaint: str) -> None:
    set_to(workspace, text)
    with pytest.raises(InputError, match=complaint):
        opened(workspace, PEOPLE[0])


def test_settings_that_fit(workspace: Workspace) -> None:
    set_to(workspace, "[clock]\nmonths = 2\nholidays = [2026-12-25]\nreminder_days = [5]\n")
    rules = load_settings(workspace.root).rules
    assert rules.holidays == (date(2026, 12, 25),)
    assert clock.due(workspace.clock(), rules).date() == date(2026, 3, 31)
    assert intake.show(workspace, opened(workspace, PEOPLE[0]))["reminders"] == ["2026-03-26"]


def test_a_selection_can_be_forgotten_alone(workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[0], note="free text")
    assert PEOPLE[0] in json.dumps(intake.show(workspace, request, selection=True))
    assert PEOPLE[0] not in json.dumps(intake.show(workspace, request))
    with workspace.session(write=True) as session:
        request_store.forget_selection(session, request)
    with workspace.session() as session:
        row = session.get_one(RequestRow, request)
        assert PEOPLE[0] not in json.dumps(row.selection)
        assert row.note is None
        assert session.query(RequestEventRow).count() == 2
