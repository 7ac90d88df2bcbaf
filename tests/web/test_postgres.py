# SPDX-License-Identifier: Apache-2.0
"""The desk over a catalog in PostgreSQL: from signing in to a certificate, by pages and by the API."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from desk_kit import PASSWORD, Desk
from postgres_kit import server, url, workspace
from requests_kit import PEOPLE, START, Paper, add_people
from sqlalchemy import insert, text
from web.pages.reading import words

from expunge.catalog.tables import DUE_AT, IS_CLOSED, RequestRow
from expunge.web import queries
from expunge.web.auth.roles import Role
from expunge.web.jobs import job_store, worker
from expunge.workspace import Workspace

pytestmark = pytest.mark.slow
__all__ = ["server", "url", "workspace"]
API = "/api/v1"


def done_by_a_worker(workspace: Workspace, job_id: str) -> job_store.Job:
    """Let a worker of this process do a job that waits: models of paper are no other's."""
    with workspace.session(write=True) as session:
        job = job_store.claim(session, 0, 1, workspace.clock())
    assert job is not None
    assert job.id == job_id
    worker.run_job(workspace, job)
    return job_store.find(workspace, job_id)


def test_the_way_of_a_request(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    add_people(workspace, PEOPLE)
    Paper(workspace).install(monkeypatch)
    desk = Desk(workspace)
    desk.account("ann", Role.ADMIN)
    with desk.client() as browser:
        wrong = browser.post("/login", data={"name": "ann", "password": "no"}, follow_redirects=False)
        assert wrong.status_code == 422
        came = browser.post("/login", data={"name": "ann", "password": PASSWORD})
        assert came.url.path == "/requests"
        csrf = re.search(r'name="csrf" value="(\w+)"', came.text)
        assert csrf is not None
        browser.headers["X-CSRF-Token"] = csrf.group(1)
        form = {"dataset": "shop", "subjects": PEOPLE[0], "key": "k", "recipients": "Shop Ltd"}
        filed = browser.post("/requests", data=form)
        request = re.search(r"r-[0-9a-f]{16}", filed.url.path)
        assert request is not None, words(filed.text)
        here = f"/requests/{request.group()}"
        assert browser.post("/requests", data=form).url.path == here, "a form sent twice"
        assert browser.get(f"{API}{here}/scope").json()["samples"] == 2
        assert "is approved" in words(browser.post(f"{here}/approve").text)
        started = browser.post(f"{API}{here}/run", headers={"Idempotency-Key": "run-1"}).json()
        again = browser.post(f"{API}{here}/run", headers={"Idempotency-Key": "run-1"}).json()
        assert started["id"] == again["id"]
        assert done_by_a_worker(workspace, started["id"]).state == "done"
        told = browser.get(f"{API}/jobs/{started['id']}/events").text
        assert told.startswith("event: end\n")
        assert json.loads(told.partition("data: ")[2])["result"]["requests"][0]["state"] == "closed"
        assert "The request is closed" in words(browser.get(here).text)
        certificate = browser.get(f"{API}{here}/certificate").content
        found = browser.post(f"{API}/certificates/verify", content=certificate).json()
        assert {c["name"]: c["ok"] for c in found["checks"]}["signature"] is True
        made = browser.post(f"{API}/tokens", json={"name": "x", "scopes": ["desk.view"]}).json()
        program = desk.client(Authorization=f"Bearer {made['secret']}")
        assert program.get(f"{API}/requests").json()["total"] == 1
        assert program.get(f"{API}/requests/counts").json()["states"]["closed"] == 1
        for page in ("/models", "/models/m", "/datasets", "/datasets/shop", "/log", "/accounts", "/account"):
            assert browser.get(page).status_code == 200, page
        trail = browser.get(f"{API}/trail?limit=200").json()["items"]
        assert {"POST /requests", "POST /requests/{request_id}/approve"} <= {
            f"{entry['method']} {entry['route']}" for entry in trail
        }
        assert browser.post("/logout").url.path == "/login"
        assert browser.get(f"{API}/requests").status_code == 401


def test_the_queue_in_pages(workspace: Workspace) -> None:
    """The same order and the same pages as with SQLite, from the index."""
    add_people(workspace, PEOPLE)
    rows: list[dict[str, Any]] = [
        {
            "id": f"r-{number * 7919 % 65536:016x}",
            "dataset_id": 1,
            "state": ("scoped", "closed", "approved")[number % 3],
            "method": "auto",
            "selection": {"samples": 1, "subjects": 1, "models": []},
            "version_before": 1,
            "received": START - timedelta(days=number % 40),
            "due": None if number % 5 == 0 else START + timedelta(days=number % 30),
        }
        for number in range(2000)
    ]
    with workspace.session(write=True) as session:
        session.execute(insert(RequestRow), rows)
    rows.sort(key=lambda r: (r["state"] == "closed", r["due"] or r["received"], r["id"]))
    found, cursor = [], None
    while True:
        page = queries.queue(workspace, limit=150, cursor=cursor)
        found += [item["request"] for item in page.items]
        if (cursor := page.next) is None:
            break
    assert found == [row["id"] for row in rows]
    assert (
        queries.queue(workspace, dataset="shop", overdue=True).total == queries.count_overdue(workspace) > 0
    )
    with workspace._engine.connect() as connection:
        connection.execute(text("ANALYZE request"))
        query = f"SELECT id FROM request WHERE {IS_CLOSED} = 0 ORDER BY {DUE_AT}, id LIMIT 26"
        plan = "\n".join(str(row[0]) for row in connection.execute(text(f"EXPLAIN {query}")))
    assert "request_queue" in plan, plan
    assert "Sort" not in plan, plan
