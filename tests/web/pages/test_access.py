# SPDX-License-Identifier: Apache-2.0
"""Every page for every role, for nobody, and for a form that comes from elsewhere."""

from __future__ import annotations

import pytest
from desk_kit import ROLES, Desk

from expunge.web.auth.roles import Role, may
from expunge.web.openapi import SIGNED_IN as ANYBODY
from expunge.web.openapi import served_routes

NOWHERE = {
    "request_id": "r-0123456789abcdef",
    "name": "elsewhere",
    "index": "1000",
    "sample": "1",
    "token": "t-0123456789abcdef",
}
OPEN = {
    ("GET", "/static/{name:path}"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/link/{secret}"),
    ("POST", "/link/{secret}"),
}
TABLE: dict[tuple[str, str], str] = {
    ("GET", "/requests"): "desk.view",
    ("GET", "/requests/savings"): "desk.view",
    ("GET", "/requests/new"): "requests.file",
    ("POST", "/requests/preview"): "requests.file",
    ("POST", "/requests"): "requests.file",
    ("GET", "/requests/{request_id}"): "desk.view",
    ("GET", "/requests/{request_id}/scope"): "desk.view",
    ("POST", "/requests/{request_id}/approve"): "requests.approve",
    ("POST", "/requests/{request_id}/refuse"): "requests.refuse",
    ("POST", "/requests/{request_id}/extend"): "requests.extend",
    ("POST", "/requests/{request_id}/tell"): "requests.tell",
    ("POST", "/requests/{request_id}/run"): "requests.run",
    ("POST", "/requests/{request_id}/audit"): "audits.run",
    ("GET", "/requests/{request_id}/certificate.json"): "desk.view",
    ("GET", "/requests/{request_id}/report"): "desk.view",
    ("GET", "/requests/{request_id}/report.html"): "desk.view",
    ("GET", "/requests/{request_id}/audits/{name}"): "desk.view",
    ("GET", "/requests/{request_id}/lookalikes"): "pictures.view",
    ("POST", "/requests/{request_id}/pairs"): "duplicates.decide",
    ("GET", "/requests/{request_id}/pictures/{sample}.jpg"): "pictures.view",
    ("GET", "/requests/{request_id}/comparison"): "pictures.view",
    ("POST", "/requests/{request_id}/comparison"): "pictures.view",
    ("GET", "/models"): "desk.view",
    ("GET", "/models/{name}"): "desk.view",
    ("GET", "/datasets"): "desk.view",
    ("GET", "/datasets/{name}"): "desk.view",
    ("GET", "/log"): "desk.view",
    ("GET", "/log/head"): "desk.view",
    ("POST", "/log/consistency"): "desk.view",
    ("GET", "/log/tree-head.json"): "desk.view",
    ("GET", "/log/public-key.pem"): "desk.view",
    ("GET", "/log/{index}"): "desk.view",
    ("GET", "/verify"): "certificates.verify",
    ("POST", "/verify"): "certificates.verify",
    ("GET", "/account"): "account.own",
    ("POST", "/account/password"): "account.own",
    ("POST", "/account/tokens"): "account.own",
    ("POST", "/account/tokens/{token}/revoke"): "account.own",
    ("GET", "/accounts"): "accounts.manage",
    ("POST", "/accounts"): "accounts.manage",
    ("POST", "/accounts/{name}"): "accounts.manage",
    ("POST", "/accounts/{name}/link"): "accounts.manage",
    ("GET", "/trail"): "trail.view",
}
SIGNED_IN = (("GET", "/"), ("POST", "/logout"))
PAIR = {"first": "1", "second": "2", "decision": "same"}
ROUTES = [*TABLE, *SIGNED_IN]


def name(route: tuple[str, str]) -> str:
    return " ".join(route)


def address(path: str) -> str:
    return path.format(**NOWHERE)


def test_the_table_is_the_pages(shared: Desk) -> None:
    pages = {(r.method, r.path): r.needs for r in served_routes(shared.app) if not r.path.startswith("/api/")}
    assert pages == {**TABLE, **dict.fromkeys(SIGNED_IN, ANYBODY), **dict.fromkeys(OPEN)}


@pytest.mark.parametrize("route", TABLE, ids=name)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_what_it_may(shared: Desk, role: Role, route: tuple[str, str]) -> None:
    answer = shared.signed_in(role).request(route[0], address(route[1]), data=PAIR, follow_redirects=False)
    assert (answer.status_code == 403) == (not may(role, TABLE[route])), answer.text[:200]
    assert answer.status_code < 500


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_nobody_is_sent_to_sign_in(shared: Desk, route: tuple[str, str]) -> None:
    answer = shared.client().request(route[0], address(route[1]), data=PAIR, follow_redirects=False)
    if route[0] == "GET":
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
    else:
        assert answer.status_code == 401


@pytest.mark.parametrize("route", [r for r in ROUTES if r[0] == "POST"], ids=name)
def test_a_form_from_elsewhere_is_refused(shared: Desk, route: tuple[str, str]) -> None:
    bare = shared.signed_in(Role.ADMIN, csrf=False)
    for form in (PAIR, {**PAIR, "csrf": "0" * 64}):
        assert bare.post(address(route[1]), data=form, follow_redirects=False).status_code == 403
    signed = shared.signed_in(Role.ADMIN)
    for header in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                   {"Sec-Fetch-Site": "same-site", "Origin": "null"}):  # fmt: skip
        sent = signed.post(address(route[1]), data=PAIR, headers=header, follow_redirects=False)
        assert sent.status_code == 403, header


def test_a_form_of_the_desks_own_is_taken(shared: Desk) -> None:
    """The control: a browser sends this with a form of a page that has no referrers."""
    own = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    answer = shared.signed_in(Role.ADMIN).post("/requests/preview", data={}, headers=own)
    assert answer.status_code == 200
