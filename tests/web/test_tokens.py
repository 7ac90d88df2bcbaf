# SPDX-License-Identifier: Apache-2.0
"""Tokens of programs: shown once, hashed, with an end and with scopes that never grow."""

from __future__ import annotations

from typing import Any

import pytest
from desk_kit import Desk
from requests_kit import PEOPLE, Clock

from expunge.web.auth.roles import Role

API = "/api/v1"


def make(client: Any, **body: Any) -> Any:
    """Make a token."""
    return client.post(f"{API}/tokens", json={"name": "portal", "scopes": ["desk.view"], **body})


def test_shown_once_and_kept_as_a_digest(desk: Desk) -> None:
    browser = desk.signed_in(Role.OFFICER)
    made = make(browser).json()
    secret = made["secret"]
    assert secret.startswith("expunge_")
    assert secret not in browser.get(f"{API}/tokens").text
    stored = b"".join(
        f.read_bytes() for f in desk.workspace.root.iterdir() if f.name.startswith("catalog.sqlite")
    )
    assert secret.encode() not in stored
    assert secret.removeprefix("expunge_").encode() not in stored
    program = desk.client(Authorization=f"Bearer {secret}")
    me = program.get(f"{API}/me").json()
    assert (me["name"], me["via"], me["permissions"], me["csrf"]) == (
        "a-officer",
        "token",
        ["desk.view"],
        None,
    )
    assert program.get(f"{API}/requests").status_code == 200
    assert program.post(f"{API}/requests", json={"subjects": [PEOPLE[0]]}).status_code == 403


def test_scopes_are_the_roles(desk: Desk) -> None:
    browser = desk.signed_in(Role.OFFICER)
    for scopes in (["requests.run"], ["everything"], []):
        assert make(browser, scopes=scopes).status_code == 422
    for days in (0, 367):
        assert make(browser, days=days).status_code == 422


def test_it_ends(desk: Desk) -> None:
    secret = make(desk.signed_in(Role.OFFICER), days=2).json()["secret"]
    program = desk.client(Authorization=f"Bearer {secret}")
    assert isinstance(desk.workspace.clock, Clock)
    desk.workspace.clock.go(hours=47)
    assert program.get(f"{API}/me").status_code == 200
    desk.workspace.clock.go(hours=1)
    assert program.get(f"{API}/me").status_code == 401


def test_revoked_by_its_owner_or_an_admin(desk: Desk) -> None:
    owner, other, admin = (desk.signed_in(role) for role in (Role.OFFICER, Role.ENGINEER, Role.ADMIN))
    first, second = (make(owner).json() for _ in range(2))
    assert other.get(f"{API}/tokens").json() == []
    assert other.delete(f"{API}/tokens/{first['id']}").status_code == 404
    assert owner.delete(f"{API}/tokens/{first['id']}").status_code == 204
    assert admin.delete(f"{API}/tokens/{second['id']}").status_code == 204
    for made in (first, second):
        assert desk.client(Authorization=f"Bearer {made['secret']}").get(f"{API}/me").status_code == 401
    assert all(token["revoked"] for token in admin.get(f"{API}/tokens").json())


def test_a_token_makes_no_tokens(desk: Desk) -> None:
    program = desk.bearer(Role.ADMIN)
    assert make(program).status_code == 403


def test_a_wrong_token_is_not_made_good_by_a_cookie(desk: Desk) -> None:
    browser = desk.signed_in(Role.ADMIN)
    browser.headers["Authorization"] = "Bearer expunge_wrong"
    assert browser.get(f"{API}/me").status_code == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "bearer x", "expunge_x", "Bearer expunge_\u00e9"])
def test_odd_headers_are_nobody(desk: Desk, header: str) -> None:
    answer = desk.client().get(f"{API}/me", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
