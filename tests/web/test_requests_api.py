# SPDX-License-Identifier: Apache-2.0
"""A request over the API from filing to its certificate; pages, keys, four eyes, and who saw it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from desk_kit import Desk
from requests_kit import PEOPLE, Paper
from sqlalchemy import event

from expunge.catalog.model_store import get_request
from expunge.erasure import intake
from expunge.erasure.scope import ErasureRequest
from expunge.web.auth.roles import Role
from expunge.web.jobs import job_store, worker
from expunge.workspace import Workspace

API = "/api/v1"


def file(client: Any, *people: str, **more: Any) -> dict[str, Any]:
    """File a request; returns the answer."""
    answer = client.post(f"{API}/requests", json={"subjects": list(people), **more})
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def work(workspace: Workspace, slot: int = 0) -> job_store.Job:
    """Do the oldest job of a slot in this process."""
    with workspace.session(write=True) as session:
        job = job_store.claim(session, slot, 1, workspace.clock())
    assert job is not None
    worker.run_job(workspace, job)
    return job_store.find(workspace, job.id)


def test_from_filing_to_the_certificate(desk: Desk, workspace: Workspace) -> None:
    portal = desk.bearer(Role.OFFICER, "requests.file", "desk.view", name="portal")
    officer, engineer = desk.signed_in(Role.OFFICER), desk.signed_in(Role.ENGINEER)
    answer = portal.post(
        f"{API}/requests",
        json={
            "subjects": [PEOPLE[0]],
            "ground": "consent-withdrawn",
            "received": "2026-01-30",
            "note": "by post",
            "recipients": ["Shop Ltd", "Shop Ltd"],
        },
    )
    assert answer.status_code == 201
    filed = answer.json()
    request = filed["request"]
    assert answer.headers["location"] == f"{API}/requests/{request}"
    assert (filed["state"], filed["samples"], filed["models"]) == ("scoped", 2, ["m", "z"])
    shown = officer.get(f"{API}/requests/{request}").json()
    assert shown["opened_by"] == "portal"
    assert shown["recipients"] == [{"name": "Shop Ltd", "told": None, "why_not": None}]
    assert shown["can"] == ["approve", "refuse", "extend", "tell"]
    assert shown["ground"] == {"name": "consent-withdrawn", "article": "17(1)(b)"}
    asked = officer.get(f"{API}/requests/{request}/selection").json()
    assert (asked["subjects"], asked["note"], asked["forgotten"]) == ([PEOPLE[0]], "by post", False)
    assert engineer.post(f"{API}/requests/{request}/run").status_code == 409, "not approved"
    extended = officer.post(
        f"{API}/requests/{request}/extend", json={"reason": "number", "told": "2026-01-31", "months": 1}
    )
    assert extended.json()["extension"]["months"] == 1
    told = officer.post(f"{API}/requests/{request}/recipients", json={"name": "Shop Ltd"}).json()
    assert told["recipients"] == [{"name": "Shop Ltd", "told": "2026-01-31", "why_not": None}]
    assert officer.post(f"{API}/requests/{request}/approve").json()["state"] == "approved"
    assert officer.post(f"{API}/requests/{request}/approve").status_code == 409
    started = engineer.post(f"{API}/requests/{request}/run")
    assert started.status_code == 202
    job = started.json()
    assert (job["state"], job["account"]) == ("queued", "a-engineer")
    assert work(workspace).state == "done"
    done = portal.get(f"{API}/jobs/{job['id']}").json()
    assert done["result"]["requests"][0]["state"] == "closed"
    assert [m["model"] for m in done["result"]["requests"][0]["models"]] == ["m@2", "z@2"]
    shown = portal.get(f"{API}/requests/{request}").json()
    assert (shown["state"], shown["certified"], shown["originals_left"]) == ("closed", True, 0)
    assert [m["guarantee"] for m in shown["outcome"]] == ["exact", "exact"]
    assert [e["to"] for e in shown["events"]][-3:] == ["audited", "certified", "closed"]
    assert {e["actor"] for e in shown["events"]} == {"portal", "a-officer", "a-engineer", "expunge"}
    certificate = portal.get(f"{API}/requests/{request}/certificate")
    assert certificate.headers["content-disposition"] == f'attachment; filename="{request}.json"'
    verified = desk.signed_in(Role.VIEWER).post(f"{API}/certificates/verify", content=certificate.content)
    checks = {c["name"]: c["ok"] for c in verified.json()["checks"]}
    assert verified.json()["request"] == request
    assert checks["signature"] is True, checks
    assert checks["log: entry"] is True
    tampered = certificate.content.replace(b'"payload": "', b'"payload": "A')
    spoiled = desk.signed_in(Role.VIEWER).post(f"{API}/certificates/verify", content=tampered).json()
    assert spoiled["valid"] is False
    report = portal.get(f"{API}/requests/{request}/report")
    assert report.headers["content-type"].startswith("text/html")
    assert "sandbox" in report.headers["content-security-policy"]
    assert "script-src" not in report.headers["content-security-policy"]
    asked = officer.get(f"{API}/requests/{request}/selection").json()
    assert (asked["subjects"], asked["forgotten"]) == ([], True)
    entries = portal.get(f"{API}/log", params={"request": request}).json()["items"]
    assert {"certified", "rows-forgotten", "request-closed"} <= {entry["kind"] for entry in entries}
    proof = portal.get(f"{API}/log/{entries[0]['index']}/proof").json()
    assert proof["holds"] is True
    assert proof["root"] == proof["head"]["root"]


def test_nothing_of_the_person_is_left_in_the_catalog(desk: Desk, workspace: Workspace) -> None:
    """The desk's own tables, too: jobs, trail, keys."""
    client = desk.signed_in(Role.ADMIN)
    request = client.post(
        f"{API}/requests", json={"subjects": [PEOPLE[0]]}, headers={"Idempotency-Key": PEOPLE[0]}
    ).json()["request"]
    client.get(f"{API}/requests/{request}/selection")
    client.get(f"{API}/datasets/shop/picture", params={"path": f"train/{PEOPLE[0]}-0.png"})
    client.get(f"{API}/models/{PEOPLE[0]}")
    client.get(f"{API}/requests/{PEOPLE[0]}")
    client.post(f"{API}/requests/{request}/approve")
    client.post(f"{API}/requests/{request}/run", headers={"Idempotency-Key": PEOPLE[0]})
    assert work(workspace).state == "done"
    assert client.get(f"{API}/requests/{request}").json()["state"] == "closed"
    desk.app.state.trail.flush()
    found = [
        f.name for f in workspace.root.rglob("*") if f.is_file() and PEOPLE[0].encode() in f.read_bytes()
    ]
    assert found == []
    kept = b"".join(f.read_bytes() for f in workspace.root.glob("catalog.sqlite*"))
    assert PEOPLE[1].encode() in kept, "the search finds what is there"


def test_an_error_of_a_job_names_nobody(desk: Desk, workspace: Workspace) -> None:
    engineer = desk.signed_in(Role.ENGINEER)
    request = file(engineer, PEOPLE[0])["request"]
    engineer.post(f"{API}/requests/{request}/approve")
    job = engineer.post(f"{API}/requests/{request}/run").json()["id"]
    with workspace.session(write=True) as session:
        row = get_request(session, request)
        row.selection = {**row.selection, "asked": {**row.selection["asked"], "subjects": ["person-99"]}}
    done = work(workspace)
    assert (done.id, done.state) == (job, "failed")
    assert "person-99" not in str(done)
    assert done.error is not None
    assert done.error["requests"] == [request]


def test_an_idempotency_key_files_once(desk: Desk) -> None:
    portal, other = desk.bearer(Role.OFFICER, name="portal"), desk.bearer(Role.OFFICER, name="other")
    headers = {"Idempotency-Key": "ticket-4711"}
    first = portal.post(f"{API}/requests", json={"subjects": [PEOPLE[0]]}, headers=headers)
    again = portal.post(f"{API}/requests", json={"subjects": [PEOPLE[0]]}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["request"] == first.json()["request"]
    assert again.json()["reused"] is True
    wrong = portal.post(f"{API}/requests", json={"subjects": [PEOPLE[1]]}, headers=headers)
    assert wrong.status_code == 409
    theirs = other.post(f"{API}/requests", json={"subjects": [PEOPLE[1]]}, headers=headers)
    assert theirs.status_code == 201, "a key is its account's own"


def test_an_idempotency_key_starts_work_once(desk: Desk, workspace: Workspace) -> None:
    engineer = desk.signed_in(Role.ENGINEER)
    request = file(engineer, PEOPLE[0])["request"]
    engineer.post(f"{API}/requests/{request}/approve")
    headers = {"Idempotency-Key": "run-1"}
    starts = [engineer.post(f"{API}/requests/{request}/run", headers=headers).json()["id"] for _ in range(2)]
    assert starts[0] == starts[1]
    other = engineer.post(f"{API}/jobs", json={"kind": "run-due"}, headers=headers)
    assert other.status_code == 409
    assert len(job_store.page(workspace)) == 1


def test_what_was_erased_before_is_told(desk: Desk, workspace: Workspace) -> None:
    engineer = desk.signed_in(Role.ENGINEER)
    request = file(engineer, PEOPLE[0])["request"]
    engineer.post(f"{API}/requests/{request}/approve")
    engineer.post(f"{API}/requests/{request}/run")
    work(workspace)
    again = file(engineer, PEOPLE[0])
    assert (again["request"], again["already_erased_by"], again["due"]) == (request, [request], None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subjects": []},
        {"subjects": [""]},
        {"subjects": ["a\nb"]},
        {"subjects": [PEOPLE[0]], "received": "yesterday"},
        {"subjects": [PEOPLE[0]], "received": "2027-01-01"},
        {"subjects": [PEOPLE[0]], "received": "2026-02-30"},
        {"subjects": [PEOPLE[0]], "due": "2026-09-01"},
        {"subjects": [PEOPLE[0]], "ground": "whim"},
        {"subjects": [PEOPLE[0]], "method": "magic"},
        {"subjects": [PEOPLE[0]], "class_name": "a"},
        {"subjects": ["nobody-of-that-name"]},
        {"subjects": [PEOPLE[0]], "surprise": 1},
        {"samples": ["http://evil.example/x.png"]},
        {"subjects": [PEOPLE[0]], "dataset": "http://evil.example"},
    ],
)
def test_what_does_not_fit_is_refused_with_words(
    desk: Desk, workspace: Workspace, body: dict[str, Any]
) -> None:
    answer = desk.signed_in(Role.OFFICER).post(f"{API}/requests", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["title"]
    assert problem["status"] == 422
    assert workspace.query("SELECT id FROM request") == []


def test_errors_do_not_repeat_what_was_sent(desk: Desk) -> None:
    answer = desk.signed_in(Role.OFFICER).post(
        f"{API}/requests", json={"subjects": 5, "note": ["secret-word"]}
    )
    assert answer.status_code == 422
    assert "secret-word" not in answer.text
    assert {f["field"] for f in answer.json()["fields"]} == {"body.subjects", "body.note"}


def test_refused_and_told(desk: Desk) -> None:
    officer = desk.signed_in(Role.OFFICER)
    request = file(officer, PEOPLE[0])["request"]
    assert officer.post(f"{API}/requests/{request}/refuse", json={}).status_code == 422
    refused = officer.post(f"{API}/requests/{request}/refuse", json={"reason": "identity"}).json()
    assert refused["refusal"]["article"] == "12(6)"
    assert officer.get(f"{API}/requests/{request}").json()["can"] == ["tell-refusal", "tell"]
    closed = officer.post(f"{API}/requests/{request}/refuse", json={"told": "2026-01-31"}).json()
    assert closed["state"] == "closed"


def test_four_eyes(desk: Desk, workspace: Workspace) -> None:
    (workspace.root / "settings.toml").write_text("[approval]\nfour_eyes = true\n")
    workspace.__dict__.pop("settings", None)
    ann, bob = (desk.signed_in(Role.OFFICER, name) for name in ("ann", "bob"))
    admin = desk.signed_in(Role.ADMIN, "root")
    request, other = file(ann, PEOPLE[0])["request"], file(admin, PEOPLE[1])["request"]
    assert ann.get(f"{API}/me").json()["four_eyes"] is True
    refused = ann.post(f"{API}/requests/{request}/approve")
    assert refused.status_code == 409
    assert "four_eyes" in refused.json()["detail"]
    assert desk.bearer(Role.OFFICER, name="ann").post(f"{API}/requests/{request}/approve").status_code == 409
    assert admin.post(f"{API}/requests/{other}/approve").status_code == 409, "not even an admin"
    assert desk.signed_in(Role.VIEWER).post(f"{API}/requests/{request}/approve").status_code == 403
    assert bob.post(f"{API}/requests/{request}/approve").json()["state"] == "approved"


def test_pages_hold_every_request_once_in_their_order(desk: Desk, workspace: Workspace) -> None:
    for i, person in enumerate(PEOPLE):
        intake.open_request(
            workspace,
            ErasureRequest(subjects=(person,)),
            intake.Opening(received=f"2026-01-{10 + i % 3:02d}", actor="x"),
        )
    client = desk.signed_in(Role.OFFICER)
    first = client.get(f"{API}/requests").json()["items"][0]["request"]
    client.post(f"{API}/requests/{first}/refuse", json={"reason": "identity", "told": None})
    client.post(f"{API}/requests/{first}/refuse", json={"told": "2026-01-31"})
    whole = client.get(f"{API}/requests").json()
    assert (whole["total"], whole["next"]) == (8, None)
    keys = [(r["state"] == "closed", r["due"], r["request"]) for r in whole["items"]]
    assert keys == sorted(keys)
    assert whole["items"][-1]["request"] == first, "closed ones come last"
    for limit in (1, 3, 7, 8):
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor:
            page = client.get(
                f"{API}/requests", params={"limit": limit, **({"cursor": cursor} if cursor else {})}
            )
            found += page.json()["items"]
            cursor, pages = page.json()["next"], pages + 1
        assert found == whole["items"]
        assert pages == -(-8 // limit)
    some = client.get(f"{API}/requests", params={"state": ["scoped"], "dataset": "shop"}).json()
    assert some["total"] == 7
    assert client.get(f"{API}/requests", params={"dataset": "none"}).json()["total"] == 0
    assert client.get(f"{API}/requests", params={"overdue": True}).json()["total"] == 0
    counts = client.get(f"{API}/requests/counts").json()
    assert (counts["states"]["scoped"], counts["states"]["closed"], counts["overdue"]) == (7, 1, 0)


def test_overdue(desk: Desk, workspace: Workspace) -> None:
    client = desk.signed_in(Role.OFFICER)
    late = file(client, PEOPLE[0], received="2025-11-01")["request"]
    file(client, PEOPLE[1])
    found = client.get(f"{API}/requests", params={"overdue": True}).json()
    assert [r["request"] for r in found["items"]] == [late]
    assert client.get(f"{API}/requests/counts").json()["overdue"] == 1


@pytest.mark.parametrize(
    "cursor", ["x", "", "W10", "WzEsMiwzXQ", "%00", "eyJhIjoxfQ", "WyJub3QgYSBkYXRlIiwiaiJd"]
)
@pytest.mark.parametrize("path", ["/requests", "/jobs", "/log", "/trail"])
def test_a_cursor_of_nowhere_is_refused(desk: Desk, path: str, cursor: str) -> None:
    assert desk.signed_in(Role.ADMIN).get(f"{API}{path}", params={"cursor": cursor}).status_code == 422


def test_who_saw_and_did_what(desk: Desk) -> None:
    officer, viewer, admin = (desk.signed_in(r) for r in (Role.OFFICER, Role.VIEWER, Role.ADMIN))
    request = file(officer, PEOPLE[0])["request"]
    viewer.get(f"{API}/requests/{request}")
    viewer.get(f"{API}/requests/{request}/selection")
    desk.client().get(f"{API}/requests/{request}")
    entries = admin.get(f"{API}/trail").json()["items"]
    told = [(e["account"], e["method"], e["route"], e["object"], e["status"]) for e in entries]
    assert told == [
        ("a-viewer", "GET", f"{API}/requests/{{request_id}}/selection", None, 403),
        ("a-viewer", "GET", f"{API}/requests/{{request_id}}", request, 200),
        ("a-officer", "POST", f"{API}/requests", request, 201),
    ]
    page = admin.get(f"{API}/trail", params={"limit": 2}).json()
    rest = admin.get(f"{API}/trail", params={"limit": 2, "cursor": page["next"]}).json()
    assert len(page["items"]) == 2
    assert rest["items"][-1]["method"] == "POST"


def test_an_audit_is_listed_and_shown(desk: Desk, workspace: Workspace) -> None:
    name = "r-0123456789abcdef-m-2-quick"
    report = {
        "model": "m@2", "original": "m@1", "request": name[:18], "level": "quick", "verdict": "no-power",
        "failure": None, "reasons": ["few"], "figures": {"loss_gap": {"value": 1.0}}, "utility": None,
        "n": {"forget": 2}, "references": {"count": 0, "origin": "none"},
    }  # fmt: skip
    workspace.audits.mkdir()
    (workspace.audits / f"{name}.json").write_text(json.dumps(report))
    (workspace.audits / "secret.json").write_text("{}")
    client = desk.signed_in(Role.VIEWER)
    assert [a["audit"] for a in client.get(f"{API}/audits").json()] == [name]
    assert client.get(f"{API}/audits", params={"request": "r-" + "0" * 16}).json() == []
    assert client.get(f"{API}/audits/{name}").json()["figures"] == report["figures"]
    assert client.get(f"{API}/audits/{name}/page").status_code == 404
    (workspace.audits / f"{name}.html").write_text("<p>page</p>")
    page = client.get(f"{API}/audits/{name}/page")
    assert page.text == "<p>page</p>"
    assert "sandbox" in page.headers["content-security-policy"]


def test_models_with_their_lineage(desk: Desk, workspace: Workspace, paper: Paper) -> None:
    paper.publish("m", "r-0123456789abcdef")
    client = desk.signed_in(Role.VIEWER)
    newest = client.get(f"{API}/models").json()
    assert [(m["model"], m["versions"]) for m in newest] == [("m@2", 2), ("z@1", 1)]
    versions = client.get(f"{API}/models/m").json()["versions"]
    assert [(v["model"], v["parent"], v["state"]) for v in versions] == [
        ("m@1", None, "superseded"), ("m@2", "m@1", "current"),
    ]  # fmt: skip
    assert versions[1]["request"] == "r-0123456789abcdef"


def test_datasets_and_subjects_as_counts(desk: Desk) -> None:
    client = desk.signed_in(Role.VIEWER)
    assert [d["dataset"] for d in client.get(f"{API}/datasets").json()] == ["shop@1"]
    whole = client.get(f"{API}/datasets/shop").json()
    assert (whole["samples"], whole["splits"], len(whole["versions"])) == (18, {"train": 18}, 1)
    counts = client.get(f"{API}/datasets/shop/subjects").json()
    assert counts == {
        "dataset": "shop@1", "subjects": 8, "samples_without": 2,
        "by_samples": {"1": 0, "2-5": 8, "6-20": 0, "21-100": 0, "more": 0},
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/requests?limit={}", "/jobs?limit={}", "/datasets", "/models"])
def test_a_longer_page_takes_no_more_questions(desk: Desk, workspace: Workspace, path: str) -> None:
    """As many statements for many rows as for few: pages stay quick."""
    asked: list[str] = []
    event.listen(workspace._engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    client = desk.signed_in(Role.VIEWER)
    numbers = []
    for known, limit in ((1, 1), (8, 200)):
        for person in PEOPLE[len(workspace.query("SELECT id FROM request")) : known]:
            request = intake.open_request(workspace, ErasureRequest(subjects=(person,)))["request"]
            job_store.submit(workspace, job_store.RUN, {"requests": [request]}, "x")
        client.get(API + path.format(limit))
        asked.clear()
        assert client.get(API + path.format(limit)).status_code == 200
        numbers.append(len([sql for sql in asked if sql.startswith("SELECT")]))
    assert numbers[0] == numbers[1] > 0
