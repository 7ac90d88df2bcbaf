# SPDX-License-Identifier: Apache-2.0
"""Every route of the API, for every role, for nobody, for foreign ids, and without the proof against forgery.

The table says what each route takes; a route that is not in it, or takes something else, is a failure.
"""

from __future__ import annotations

from typing import Any

import pytest
from desk_kit import ROLES, Desk
from requests_kit import PEOPLE, Paper

from expunge.erasure import intake, scheduler
from expunge.erasure.scope import ErasureRequest
from expunge.progress import Progress
from expunge.web.auth.access import SAFE
from expunge.web.auth.roles import PERMISSIONS, Role, may
from expunge.web.jobs import job_store
from expunge.web.openapi import SIGNED_IN, served_routes
from expunge.workspace import Workspace

API = "/api/v1"
NOWHERE = {
    "request_id": "r-0123456789abcdef",
    "job_id": "j-0123456789abcdef",
    "token_id": "t-0123456789abcdef",
    "ref": "elsewhere@1",
    "name": "r-0123456789abcdef-elsewhere-1-quick",
    "index": "1000",
    "sample": "1",
}
FILE = {"subjects": [PEOPLE[1]]}
# method and path: what it takes, a body that fits, and whether its path names something
TABLE: dict[tuple[str, str], tuple[str | None, Any]] = {
    ("POST", "/session"): (None, {"name": "nobody", "password": "x"}),
    ("DELETE", "/session"): (SIGNED_IN, None),
    ("POST", "/link"): (None, {"secret": "x", "password": "a long enough password"}),
    ("GET", "/me"): (SIGNED_IN, None),
    ("POST", "/me/password"): ("account.own", {"present": "x", "new": "a long enough password"}),
    ("GET", "/tokens"): ("account.own", None),
    ("POST", "/tokens"): ("account.own", {"name": "x", "scopes": ["account.own"]}),
    ("DELETE", "/tokens/{token_id}"): ("account.own", None),
    ("GET", "/requests"): ("desk.view", None),
    ("POST", "/requests"): ("requests.file", FILE),
    ("GET", "/requests/counts"): ("desk.view", None),
    ("GET", "/requests/{request_id}"): ("desk.view", None),
    ("GET", "/requests/{request_id}/selection"): ("selection.view", None),
    ("GET", "/requests/{request_id}/scope"): ("desk.view", None),
    ("GET", "/requests/{request_id}/lookalikes"): ("pictures.view", None),
    ("POST", "/requests/{request_id}/lookalikes"): (
        "duplicates.decide", {"goes": 1, "alike": 2, "decision": "same"},
    ),
    ("GET", "/requests/{request_id}/pictures/{sample}"): ("pictures.view", None),
    ("POST", "/requests/{request_id}/approve"): ("requests.approve", None),
    ("POST", "/requests/{request_id}/refuse"): ("requests.refuse", {"reason": "identity"}),
    ("POST", "/requests/{request_id}/extend"): (
        "requests.extend", {"reason": "complexity", "told": "2026-01-31"},
    ),
    ("POST", "/requests/{request_id}/recipients"): ("requests.tell", {"name": "Shop Ltd"}),
    ("POST", "/requests/{request_id}/run"): ("requests.run", None),
    ("GET", "/requests/{request_id}/certificate"): ("desk.view", None),
    ("GET", "/requests/{request_id}/report"): ("desk.view", None),
    ("GET", "/datasets"): ("desk.view", None),
    ("GET", "/datasets/{ref}"): ("desk.view", None),
    ("GET", "/datasets/{ref}/subjects"): ("desk.view", None),
    ("GET", "/datasets/{ref}/picture"): ("pictures.view", None),
    ("GET", "/models"): ("desk.view", None),
    ("GET", "/models/{ref}"): ("desk.view", None),
    ("POST", "/certificates/verify"): ("certificates.verify", {}),
    ("POST", "/verifications"): ("certificates.replay", {"target": NOWHERE["request_id"]}),
    ("GET", "/key"): ("desk.view", None),
    ("GET", "/audits"): ("desk.view", None),
    ("POST", "/audits"): ("audits.run", {"model": "m@1", "request": NOWHERE["request_id"]}),
    ("GET", "/audits/{name}"): ("desk.view", None),
    ("GET", "/audits/{name}/page"): ("desk.view", None),
    ("GET", "/log"): ("desk.view", None),
    ("GET", "/log/{index}/proof"): ("desk.view", None),
    ("GET", "/jobs"): ("desk.view", None),
    ("POST", "/jobs"): ("requests.run", {"kind": "run", "requests": [NOWHERE["request_id"]]}),
    ("GET", "/jobs/{job_id}"): ("desk.view", None),
    ("GET", "/jobs/{job_id}/events"): ("desk.view", None),
    ("GET", "/accounts"): ("accounts.manage", None),
    ("POST", "/accounts"): ("accounts.manage", {"name": "new", "role": "viewer"}),
    ("PATCH", "/accounts/{name}"): ("accounts.manage", {"role": "viewer"}),
    ("POST", "/accounts/{name}/link"): ("accounts.manage", None),
    ("GET", "/trail"): ("trail.view", None),
}  # fmt: skip
TAKING = [route for route, (needs, _) in TABLE.items() if needs is not None]
FOREIGN = [route for route in TAKING if "{" in route[1]]
UNSAFE = [route for route in TAKING if route[0] not in SAFE]


def call(client: Any, method: str, path: str, ids: dict[str, str] = NOWHERE) -> Any:
    """Call a route with a body that fits."""
    address = API + path.format(**ids)
    if path.endswith("/picture"):
        address += "?path=train/person-0-0.png"
    return client.request(method, address, json=TABLE[method, path][1])


def name(route: tuple[str, str]) -> str:
    return " ".join(route)


def test_the_table_is_the_applications(shared: Desk) -> None:
    routes = {
        (r.method, r.path.removeprefix(API)): r.needs
        for r in served_routes(shared.app)
        if r.path.startswith(API)
    }
    assert routes == {route: needs for route, (needs, _) in TABLE.items()}


def test_what_changes_something_takes_somebody(shared: Desk) -> None:
    """On every page as well: only signing in, and choosing a password by a link, are for everybody."""
    public = {
        (r.method, r.path) for r in served_routes(shared.app) if r.needs is None and r.method not in SAFE
    }
    assert public <= {
        ("POST", f"{API}/session"), ("POST", f"{API}/link"), ("POST", "/login"), ("POST", "/link/{secret}"),
    }  # fmt: skip


@pytest.mark.parametrize("route", TAKING, ids=name)
def test_nobody_gets_in(shared: Desk, route: tuple[str, str]) -> None:
    for client in (
        shared.client(),
        shared.client(Cookie="expunge_session=guess"),
        shared.client(Authorization="Bearer expunge_guess"),
        shared.client(Authorization="Basic YTpi"),
    ):
        answer = call(client, *route)
        assert answer.status_code == 401, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", TAKING, ids=name)
@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_what_the_table_says(shared: Desk, role: Role, route: tuple[str, str]) -> None:
    needs = TABLE[route][0]
    assert needs is not None
    for client in (shared.signed_in(role), shared.bearer(role)):
        answer = call(client, *route)
        by_token = "Authorization" in client.headers
        in_person = by_token and route in {("POST", "/tokens"), ("POST", "/me/password")}
        refused = needs != SIGNED_IN and not may(role, needs)
        assert (answer.status_code == 403) == (refused or in_person), answer.text
        assert answer.status_code != 401
        assert answer.status_code < 500


@pytest.mark.parametrize("route", [r for r in TAKING if TABLE[r][0] != SIGNED_IN], ids=name)
def test_a_token_without_the_scope_may_not(shared: Desk, route: tuple[str, str]) -> None:
    needs = TABLE[route][0]
    others = [permission for permission in PERMISSIONS if permission != needs]
    assert call(shared.bearer(Role.ADMIN, *others), *route).status_code == 403


@pytest.mark.parametrize("route", UNSAFE, ids=name)
def test_a_forged_request_is_refused(shared: Desk, route: tuple[str, str]) -> None:
    client = shared.signed_in(Role.ADMIN, csrf=False)
    for headers in ({}, {"X-CSRF-Token": "0" * 64}):
        client.headers.update(headers)
        answer = call(client, *route)
        assert answer.status_code == 403
        assert "own pages" in answer.json()["title"]
    other = shared.signed_in(Role.ADMIN).headers["X-CSRF-Token"]
    client.headers["X-CSRF-Token"] = other  # of another session of the same person
    assert call(client, *route).status_code == 403
    proper = shared.signed_in(Role.ADMIN)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        assert call_with(proper, route, Origin=origin).status_code == 403
    assert call_with(proper, route, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert call_with(proper, route, Origin="http://127.0.0.1:8017").status_code != 403


def call_with(client: Any, route: tuple[str, str], **headers: str) -> Any:
    """Call a route with further headers, this once."""
    method, path = route
    return client.request(method, API + path.format(**NOWHERE), json=TABLE[route][1], headers=headers)


@pytest.mark.parametrize("route", FOREIGN, ids=name)
def test_what_is_another_workspaces_is_nothing_here(shared: Desk, route: tuple[str, str]) -> None:
    answer = call(shared.signed_in(Role.ADMIN), *route)
    assert answer.status_code == 404, answer.text
    problem = answer.json()
    assert problem["status"] == 404
    assert str(shared.workspace.root) not in answer.text


@pytest.fixture
def known(desk: Desk, workspace: Workspace, paper: Paper) -> dict[str, str]:
    """Something of each kind that a path can name."""
    request = intake.open_request(workspace, ErasureRequest(subjects=(PEOPLE[0],)))["request"]
    intake.approve(workspace, request)
    scheduler.run(workspace, scheduler.QueueSelection(ids=(request,)), Progress(quiet=True))
    return {
        "request_id": request,
        "job_id": job_store.submit(workspace, job_store.RUN, {"requests": [request]}, "ann").id,
        "ref": "m",
        "index": "0",
    }


@pytest.mark.parametrize("role", ROLES)
def test_views_of_what_is_known(desk: Desk, known: dict[str, str], role: Role) -> None:
    """Each view that a role may see answers, as its schema says, and none tells whom it concerns."""
    client = desk.signed_in(role)
    seen = 0
    for (method, path), (needs, _) in TABLE.items():
        if method != "GET" or needs in (None, SIGNED_IN) or not may(role, str(needs)):
            continue
        if path.startswith("/audits/") or path.endswith(
            ("/picture", "/{sample}", "/lookalikes", "/scope", "/events")
        ):
            continue
        ids = {**known, "ref": "shop" if path.startswith("/datasets") else "m@1"}
        answer = call(client, method, path, ids)
        assert answer.status_code == 200, (path, answer.text)
        assert not any(person in answer.text for person in PEOPLE) or path.endswith("/selection")
        assert answer.headers["cache-control"] == "no-store"
        seen += 1
    assert seen > 12
