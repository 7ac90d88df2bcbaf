# SPDX-License-Identifier: Apache-2.0
"""What pages show and do: odd words do nothing, forms lead on, pictures are for those with the right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from desk_kit import PASSWORD, Desk
from PIL import Image
from requests_kit import PEOPLE, Clock, Paper, add_people
from sqlalchemy import select
from web.pages.reading import faults, words

from expunge.catalog.tables import DatasetRow, SampleRow
from expunge.erasure import intake, scheduler
from expunge.erasure.scope import ErasureRequest
from expunge.progress import Progress
from expunge.web.auth import links
from expunge.web.auth.roles import Role
from expunge.web.jobs import job_store
from expunge.web.settings import ServerSettings
from expunge.workspace import Workspace

ODD = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{7*7}}{% raw %}",
    "</textarea><style>*{}</style>",
    "../../etc/passwd",
    "&lt;b&gt;",
)
HTMX = {"HX-Request": "true"}


def opened(workspace: Workspace, *people: str, **values: Any) -> str:
    """File a request; returns its id."""
    opening = intake.Opening(actor="olga", **values)
    return str(
        intake.open_request(workspace, ErasureRequest(subjects=people or PEOPLE[:1]), opening)["request"]
    )


def executed(workspace: Workspace, *people: str) -> str:
    """File, approve and run a request; returns its id."""
    request = opened(workspace, *people)
    intake.approve(workspace, request, "olga")
    scheduler.run(workspace, scheduler.QueueSelection(ids=(request,)), Progress(quiet=True), "olga")
    return request


@pytest.mark.parametrize("odd", ODD)
def test_odd_words_do_nothing(desk: Desk, workspace: Workspace, odd: str) -> None:
    add_people(workspace, [odd], "odd")
    client = desk.signed_in(Role.ADMIN)
    form = {"dataset": "odd", "subjects": odd, "note": odd, "recipients": odd, "key": "k"}
    sent = client.post("/requests", data=form, follow_redirects=False)
    assert sent.status_code == 303, words(sent.text)
    pages = [
        client.get(sent.headers["location"]),
        client.get("/requests", params={"q": odd, "dataset": odd, "show": odd}),
        client.post("/requests", data={**form, "subjects": odd + "?", "key": odd}),
        client.post("/requests/preview", data={**form, "subjects": odd + "?"}),
        client.post("/login", data={"name": odd, "password": odd, "next": odd}),
        client.post("/accounts", data={"name": odd, "role": odd}),
        client.post("/account/tokens", data={"name": odd, "scopes": "account.own", "days": "1"}),
        client.get("/account"),
        client.get(f"/models/{odd.replace('/', '')}"),
    ]
    for page in pages:
        assert page.status_code < 500
        assert page.headers["content-type"].startswith("text/html")
        assert faults(page.text) == []
        assert "49" not in re.findall(r"\b49\b", words(page.text))
    assert " ".join(odd.split()) in words(pages[0].text)


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("<p onclick='x()'>", "<p onclick>"),
        ("<p style='x'>", "<p style>"),
        ("<script>x()</script>", "a script with the text"),
        ("<script src='/static/other.js'></script>", "<script src=/static/other.js>"),
        ("<a href='https://evil.example'>x</a>", "leads elsewhere"),
        ("<input id=a name=b>", "without a label"),
        ("<i id=a></i><i id=a></i>", "id a twice"),
    ],
)
def test_what_no_page_may_hold_is_found(page: str, complaint: str) -> None:
    assert any(complaint in fault for fault in faults(page)), faults(page)


def test_every_page_is_sound(desk: Desk, workspace: Workspace) -> None:
    request = executed(workspace, PEOPLE[2])
    waiting = opened(workspace, PEOPLE[3])
    client = desk.signed_in(Role.ADMIN)
    here = f"/requests/{waiting}"
    several = (
        "/requests /requests/savings /requests/new /models /models/m /datasets /datasets/shop /log /log/head"
        f" /log/0 /verify /account /accounts /trail /nowhere /requests/{request} {here} {here}/scope"
    )
    for at in several.split():
        page = client.get(at)
        assert page.status_code == (404 if at == "/nowhere" else 200), (at, words(page.text)[:300])
        assert faults(page.text) == [], at
        assert page.text.count("<h1") == 1, at
        assert page.headers["cache-control"] == "no-store"


def test_a_form_sent_twice_is_one_request(desk: Desk, workspace: Workspace) -> None:
    client = desk.signed_in(Role.OFFICER)
    key = re.search(r'name="key" value="(\w+)"', client.get("/requests/new").text)
    assert key is not None
    form = {
        "dataset": "shop",
        "subjects": PEOPLE[4],
        "key": key.group(1),
        "recipients": "Shop Ltd\n\nOther Ltd",
    }
    first, again = (client.post("/requests", data=form, follow_redirects=False) for _ in range(2))
    assert first.headers["location"].partition("?")[0] == again.headers["location"].partition("?")[0]
    page = words(client.get(again.headers["location"]).text)
    assert "This form was sent before" in page
    assert "Shop Ltd: still to be informed" in page
    assert len(workspace.query("SELECT id FROM request")) == 1


def test_a_preview_with_and_without_script(workspace: Workspace) -> None:
    client = Desk(workspace).signed_in(Role.OFFICER)
    form = {"dataset": "shop", "subjects": PEOPLE[4], "note": "kept"}
    whole = client.post("/requests/preview", data=form).text
    part = client.post("/requests/preview", data=form, headers=HTMX).text
    assert "<html" in whole
    assert "kept" in whole
    assert "<html" not in part
    assert "Samples to erase 2" in words(part)
    assert workspace.query("SELECT id FROM request") == []


def test_the_way_of_a_request_by_forms(desk: Desk, workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[1])
    client = desk.signed_in(Role.ENGINEER)
    here = f"/requests/{request}"
    assert "waits for a decision" in words(client.get(here).text)
    assert client.post(f"{here}/run").status_code == 409
    assert "is approved" in words(client.post(f"{here}/approve").text)
    assert client.post(f"{here}/approve").status_code == 409
    extended = client.post(
        f"{here}/extend", data={"reason": "complexity", "told": "2026-01-31", "months": "2"}
    )
    assert "30 Apr 2026" in words(extended.text)
    assert client.post(f"{here}/extend", data={"reason": "x", "told": "2026-01-31"}).status_code == 422
    assert "Shop Ltd: informed on 31 January 2026" in words(
        client.post(f"{here}/tell", data={"recipient": "Shop Ltd"}).text
    )
    started = client.post(f"{here}/run")
    client.post(f"{here}/run")
    assert "waits for a worker" in words(started.text)
    found = job_store.of_request(workspace, request)
    assert [(job.kind, job.parameters) for job in found] == [("run", {"requests": [request]})]
    assert f'data-events="/api/v1/jobs/{found[0].id}/events"' in started.text


def test_a_refusal_by_forms(desk: Desk, workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[1])
    client = desk.signed_in(Role.OFFICER)
    here = f"/requests/{request}"
    assert client.post(f"{here}/refuse", data={"reason": ""}).status_code == 422
    page = words(client.post(f"{here}/refuse", data={"reason": "unfounded"}).text)
    assert "manifestly unfounded" in page
    assert "Inform the person by 28 February 2026" in page
    assert "The request is closed" in words(client.post(f"{here}/refuse", data={"told": "2026-01-31"}).text)


def test_deadlines_in_words(desk: Desk, workspace: Workspace) -> None:
    clock = workspace.clock
    assert isinstance(clock, Clock)
    opened(workspace, PEOPLE[1])
    client = desk.signed_in(Role.ADMIN)
    for days, said in (
        (0, "28 days left"),
        (26, "2 days left"),
        (1, "due tomorrow"),
        (1, "due today"),
        (3, "3 days overdue"),
    ):
        clock.go(days=days)
        workspace_page = desk.signed_in(Role.ADMIN, "boss").get("/requests").text
        assert said in words(workspace_page), said
    assert client.get("/requests").status_code in (200, 303)


def test_ids_are_for_those_with_the_right(desk: Desk, workspace: Workspace) -> None:
    request = opened(workspace, PEOPLE[5], note="call her")
    for role, sees in ((Role.VIEWER, False), (Role.OFFICER, True)):
        page = words(desk.signed_in(role).get(f"/requests/{request}").text)
        assert (PEOPLE[5] in page, "call her" in page) == (sees, sees)


def test_after_closing_nobody_sees_them(desk: Desk, workspace: Workspace, paper: Paper) -> None:
    request = executed(workspace, PEOPLE[6])
    page = words(desk.signed_in(Role.ADMIN).get(f"/requests/{request}").text)
    assert PEOPLE[6] not in page
    assert "The request is closed" in page


@pytest.mark.parametrize(
    "away", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "\t//x"]
)
def test_signing_in_leads_nowhere_else(desk: Desk, away: str) -> None:
    desk.account("olga", Role.OFFICER)
    form = {"name": "olga", "password": PASSWORD, "next": away}
    answer = desk.client().post("/login", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    form["next"] = "/requests?show=all"
    answer = desk.client().post("/login", data=form, follow_redirects=False)
    assert answer.headers["location"] == "/requests?show=all"


def test_a_link_is_used_up_by_choosing_alone(desk: Desk, workspace: Workspace) -> None:
    secret = links.first_admin_link(workspace, desk.settings)
    client = desk.client()
    for _ in range(3):
        assert client.get(f"/link/{secret}").status_code == 200
    form = {"name": "ada", "password": PASSWORD, "again": "another password"}
    assert client.post(f"/link/{secret}", data=form).status_code == 422
    chosen = client.post(f"/link/{secret}", data={**form, "again": PASSWORD}, follow_redirects=False)
    assert chosen.headers["location"] == "/"
    assert "HttpOnly" in chosen.headers["set-cookie"]
    assert desk.client().get(f"/link/{secret}").status_code == 404


def test_pictures_come_from_named_folders_alone(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    file = folder / "train" / f"{PEOPLE[0]}-0.png"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (300, 200), "red").save(file)
    with workspace.session(write=True) as session:
        session.scalars(select(DatasetRow)).one().root = str(folder)
        path = file.relative_to(folder).as_posix()
        row = session.scalars(select(SampleRow.id).where(SampleRow.path == path)).one()
    request = opened(workspace, PEOPLE[0])
    at = f"/requests/{request}/pictures/{row}.jpg"
    desk = Desk(workspace, ServerSettings(workers=False, roots=(folder,)))
    shown = desk.signed_in(Role.OFFICER).get(at)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert shown.headers["cache-control"] == "no-store"
    assert desk.signed_in(Role.OFFICER).get(f"/requests/{request}/pictures/{row + 1}.jpg").status_code == 404
    assert desk.signed_in(Role.VIEWER).get(at).status_code == 403
    (tmp_path / "other").mkdir()
    elsewhere = Desk(workspace, ServerSettings(workers=False, roots=(tmp_path / "other",)))
    assert elsewhere.signed_in(Role.OFFICER).get(at).status_code == 404


def test_a_page_without_pictures_says_why(workspace: Workspace, tmp_path: Path) -> None:
    request = opened(workspace, PEOPLE[0])
    for roots, said in (((), True), ((tmp_path,), False)):
        desk = Desk(workspace, ServerSettings(workers=False, roots=roots))
        page = desk.signed_in(Role.OFFICER).get(f"/requests/{request}/lookalikes").text
        assert ("started without" in page) is said
