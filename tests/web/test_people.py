# SPDX-License-Identifier: Apache-2.0
"""The first admin's link, signing in and out, sessions, guessing, passwords, accounts."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from desk_kit import PASSWORD, Desk
from requests_kit import Clock

from expunge.errors import Conflict, InputError, NotFound
from expunge.web.auth import accounts, attempts, links, passwords, sessions
from expunge.web.auth.roles import PERMISSIONS, Role, may, permissions_of
from expunge.web.settings import ServerSettings
from expunge.workspace import Workspace

API = "/api/v1"


def clock(desk: Desk) -> Clock:
    """The clock of the desk's workspace."""
    assert isinstance(desk.workspace.clock, Clock)
    return desk.workspace.clock


def everything_stored(workspace: Workspace) -> bytes:
    """The bytes of the catalog's files."""
    return b"".join(f.read_bytes() for f in workspace.root.iterdir() if f.name.startswith("catalog.sqlite"))


def use(desk: Desk, secret: str, **body: str) -> int:
    """Choose a password by a link; returns the status."""
    answer = desk.client().post(f"{API}/link", json={"secret": secret, "password": PASSWORD, **body})
    return answer.status_code


def test_each_role_may_what_the_one_before_may() -> None:
    steps = [set(permissions_of(role)) for role in Role]
    assert all(less < more for less, more in pairwise(steps))
    assert steps[-1] == set(PERMISSIONS)
    assert not may(Role.VIEWER, "requests.file")
    assert not may(Role.OFFICER, "requests.run")
    assert not may(Role.ENGINEER, "accounts.manage")
    with pytest.raises(KeyError):
        may(Role.ADMIN, "anything")


def test_the_first_link_makes_the_first_admin_once(desk: Desk) -> None:
    secret = links.first_admin_link(desk.workspace, desk.settings)
    assert links.account_of_link(desk.workspace, secret) is None, "looking does not use it up"
    assert use(desk, secret, name="x y") == 422, "a name that does not fit leaves it good"
    assert use(desk, secret, name="ann", password="short") == 422
    client = desk.client()
    made = client.post(f"{API}/link", json={"secret": secret, "password": PASSWORD, "name": "Ann"})
    assert made.status_code == 201
    assert (made.json()["name"], made.json()["role"]) == ("ann", "admin")
    assert client.get(f"{API}/me").json()["name"] == "ann", "and is signed in"
    assert use(desk, secret, name="eve") == 404
    with pytest.raises(Conflict, match="admin already"):
        links.first_admin_link(desk.workspace, desk.settings)
    assert secret.encode() not in everything_stored(desk.workspace)


def test_the_first_link_is_good_for_ten_minutes(desk: Desk) -> None:
    secret = links.first_admin_link(desk.workspace, desk.settings)
    clock(desk).go(minutes=10)
    assert use(desk, secret, name="ann") == 404
    assert accounts.count(desk.workspace) == 0


def test_a_second_start_makes_the_first_link_useless(desk: Desk) -> None:
    old, new = (links.first_admin_link(desk.workspace, desk.settings) for _ in range(2))
    assert use(desk, old, name="eve") == 404
    assert use(desk, new, name="ann") == 201


def test_a_link_that_was_left_over_makes_no_second_admin(desk: Desk) -> None:
    secret = links.first_admin_link(desk.workspace, desk.settings)
    desk.account("ann", Role.ADMIN)
    assert use(desk, secret, name="eve") == 409


def test_an_invited_person_chooses_the_password(desk: Desk) -> None:
    admin = desk.signed_in(Role.ADMIN)
    made = admin.post(f"{API}/accounts", json={"name": "olaf", "role": "officer"}).json()
    assert made["waits"] is True
    secret = made["link"].rpartition("/")[2]
    assert made["link"] == f"http://127.0.0.1:8017/link/{secret}"
    assert (
        desk.client().post(f"{API}/session", json={"name": "olaf", "password": PASSWORD}).status_code == 422
    )
    assert links.account_of_link(desk.workspace, secret) == "olaf"
    assert use(desk, secret, name="eve") == 201, "the name is the link's, whatever is sent"
    assert [a.name for a in accounts.listing(desk.workspace)] == ["a-admin", "olaf"]
    assert use(desk, secret) == 404
    again = admin.post(f"{API}/accounts/olaf/link").json()["link"].rpartition("/")[2]
    clock(desk).go(hours=24)
    assert use(desk, again) == 404


def test_signing_in_and_out(desk: Desk) -> None:
    desk.account("ann", Role.OFFICER)
    client = desk.client()
    answer = client.post(f"{API}/session", json={"name": " ANN", "password": PASSWORD})
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie, "the loopback has no TLS"
    secret = client.cookies["expunge_session"]
    assert secret.encode() not in everything_stored(desk.workspace)
    csrf = answer.json()["csrf"]
    assert csrf == client.get(f"{API}/me").json()["csrf"]
    assert secret not in csrf
    assert client.delete(f"{API}/session").status_code == 403
    assert client.delete(f"{API}/session", headers={"X-CSRF-Token": csrf}).status_code == 204
    client.cookies.set("expunge_session", secret)
    assert client.get(f"{API}/me").status_code == 401


def test_signing_in_gives_a_new_session_whatever_cookie_came(desk: Desk) -> None:
    desk.account("ann", Role.OFFICER)
    client = desk.client()
    client.cookies.set("expunge_session", "fixed-by-somebody")
    client.post(f"{API}/session", json={"name": "ann", "password": PASSWORD})
    secrets = [c.value for c in client.cookies.jar]
    found = [s for s in secrets if s and sessions.find_session(desk.workspace, desk.settings, s)]
    assert len(found) == 1
    assert found != ["fixed-by-somebody"]


def test_behind_tls_the_cookie_is_secure_and_of_this_host_alone(workspace: Workspace) -> None:
    desk = Desk(workspace, ServerSettings(behind_tls="desk.example.org", workers=False))
    desk.account("ann", Role.OFFICER)
    client = desk.client(Host="desk.example.org")
    answer = client.post(f"{API}/session", json={"name": "ann", "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Host-expunge_session=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"]


@pytest.mark.parametrize(("idle", "alive"), [(59, True), (60, False)])
def test_a_session_ends_when_nobody_uses_it(desk: Desk, idle: int, alive: bool) -> None:
    client = desk.signed_in(Role.VIEWER)
    clock(desk).go(minutes=30)
    assert client.get(f"{API}/me").status_code == 200
    clock(desk).go(minutes=idle)
    assert (client.get(f"{API}/me").status_code == 200) is alive


def test_a_session_ends_at_its_end(desk: Desk) -> None:
    client = desk.signed_in(Role.VIEWER)
    for _ in range(23):
        clock(desk).go(minutes=30)
        assert client.get(f"{API}/me").status_code == 200
    clock(desk).go(minutes=30)
    assert client.get(f"{API}/me").status_code == 401


def test_name_and_password_are_wrong_in_the_same_words(desk: Desk) -> None:
    desk.account("ann", Role.OFFICER)
    accounts.create(desk.workspace, "waits", Role.OFFICER)
    closed = desk.account("closed", Role.OFFICER)
    desk.account("boss", Role.ADMIN)
    accounts.change(desk.workspace, closed.name, disabled=True)
    answers = [
        desk.client().post(f"{API}/session", json={"name": name, "password": password}).json()
        for name, password in (
            ("ann", "wrong"), ("nobody", PASSWORD), ("waits", PASSWORD), ("closed", PASSWORD), ("ann", ""),
        )
    ]  # fmt: skip
    assert {a["status"] for a in answers} == {422}
    assert all(a == answers[0] for a in answers)


def test_guessing_is_slowed_down(desk: Desk) -> None:
    desk.account("ann", Role.OFFICER)
    client = desk.client()

    def guess(password: str, name: str = "ann") -> int:
        return client.post(f"{API}/session", json={"name": name, "password": password}).status_code

    assert [guess(f"wrong {i}") for i in range(5)] == [422] * 5
    answer = client.post(f"{API}/session", json={"name": "ann", "password": PASSWORD})
    assert answer.status_code == 429, "the right one is not looked at either"
    assert int(answer.headers["retry-after"]) > 0
    assert Desk(desk.workspace).client().post(
        f"{API}/session", json={"name": "ann", "password": PASSWORD}
    ).status_code == 429, "a restart forgets nothing"  # fmt: skip
    desk.account("bob", Role.OFFICER)
    assert guess(PASSWORD, "bob") == 201, "others are not locked out"
    clock(desk).go(minutes=15)
    assert guess(PASSWORD) == 201
    assert [guess("wrong") for _ in range(5)] == [422] * 5, "success counts anew"
    stored = everything_stored(desk.workspace)
    assert b"testclient" not in stored, "no address is kept"


def test_one_address_cannot_try_many_names(desk: Desk) -> None:
    for i in range(attempts.MAX_PER_ADDRESS):
        attempts.count(desk.workspace, f"name-{i}", "203.0.113.9")
    with pytest.raises(attempts.TooMany):
        attempts.count(desk.workspace, "name-1", "203.0.113.9")
    attempts.count(desk.workspace, "name-1", "203.0.113.10")


def test_many_addresses_cannot_try_one_name_for_ever(desk: Desk) -> None:
    for i in range(attempts.MAX_PER_ACCOUNT):
        attempts.count(desk.workspace, "ann", f"203.0.113.{i}")
    with pytest.raises(attempts.TooMany):
        attempts.count(desk.workspace, "ann", "198.51.100.1")
    clock(desk).go(minutes=15)
    attempts.count(desk.workspace, "ann", "203.0.113.1")


def test_passwords_are_hashed(desk: Desk) -> None:
    desk.account("ann", Role.OFFICER)
    stored = everything_stored(desk.workspace)
    assert PASSWORD.encode() not in stored
    assert b"$argon2id$" in stored
    with pytest.raises(InputError, match="wrong length"):
        passwords.hash_password("x" * 11)
    assert not passwords.verify_password(None, PASSWORD)
    assert not passwords.verify_password("not a hash", PASSWORD)


def test_a_new_password_ends_the_other_sessions(desk: Desk) -> None:
    here, there = desk.signed_in(Role.OFFICER), desk.signed_in(Role.OFFICER)
    body = {"present": "wrong", "new": "another good password"}
    assert here.post(f"{API}/me/password", json=body).status_code == 422
    body["present"] = PASSWORD
    assert here.post(f"{API}/me/password", json=body).status_code == 204
    assert here.get(f"{API}/me").status_code == 200
    assert there.get(f"{API}/me").status_code == 401
    signed = desk.client().post(f"{API}/session", json={"name": "a-officer", "password": body["new"]})
    assert signed.status_code == 201


def test_a_closed_account_is_out_at_once(desk: Desk) -> None:
    admin, browser = desk.signed_in(Role.ADMIN), desk.signed_in(Role.OFFICER)
    program = desk.bearer(Role.OFFICER)
    assert admin.patch(f"{API}/accounts/a-officer", json={"disabled": True}).json()["disabled"] is True
    assert browser.get(f"{API}/me").status_code == 401
    assert program.get(f"{API}/me").status_code == 401
    assert admin.patch(f"{API}/accounts/a-officer", json={"disabled": False}).status_code == 200
    assert program.get(f"{API}/me").status_code == 401, "its tokens stay revoked"


def test_another_role_holds_at_once(desk: Desk) -> None:
    admin, program = desk.signed_in(Role.ADMIN), desk.bearer(Role.ENGINEER, "requests.run", "desk.view")
    assert admin.patch(f"{API}/accounts/a-engineer", json={"role": "viewer"}).status_code == 200
    assert program.get(f"{API}/me").json()["permissions"] == ["desk.view"], "a scope is no right of its own"


def test_the_last_admin_stays(desk: Desk) -> None:
    admin = desk.signed_in(Role.ADMIN)
    for change in ({"role": "engineer"}, {"disabled": True}):
        answer = admin.patch(f"{API}/accounts/a-admin", json=change)
        assert answer.status_code == 409
    assert admin.get(f"{API}/me").json()["role"] == "admin"
    accounts.create(desk.workspace, "waits", Role.ADMIN)
    assert admin.patch(f"{API}/accounts/a-admin", json={"role": "viewer"}).status_code == 409
    desk.account("second", Role.ADMIN)
    assert admin.patch(f"{API}/accounts/a-admin", json={"role": "viewer"}).status_code == 200


def test_a_name_is_taken_once(desk: Desk) -> None:
    admin = desk.signed_in(Role.ADMIN)
    assert admin.post(f"{API}/accounts", json={"name": "a-admin", "role": "viewer"}).status_code == 409
    for bad in ("", "A b", "x" * 65, "<b>", "../x", "a\nb"):
        assert admin.post(f"{API}/accounts", json={"name": bad, "role": "viewer"}).status_code == 422
    assert admin.post(f"{API}/accounts", json={"name": "ok", "role": "king"}).status_code == 422


def test_links_of_unknown_accounts(desk: Desk) -> None:
    with pytest.raises(NotFound):
        links.invite(desk.workspace, desk.settings, "nobody")
    with pytest.raises(NotFound):
        links.account_of_link(desk.workspace, "guess")


def test_first_link_lifetime_is_ten_minutes() -> None:
    assert ServerSettings().link_lifetime == timedelta(minutes=10)
