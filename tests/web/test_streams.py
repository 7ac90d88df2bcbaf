# SPDX-License-Identifier: Apache-2.0
"""An answer that goes on, or takes long, ends with the right to have it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from desk_kit import Desk
from fastapi import Depends
from requests_kit import Clock
from starlette.responses import StreamingResponse

from expunge.web import guard, queries
from expunge.web.api import jobs
from expunge.web.auth import accounts, sessions, tokens
from expunge.web.auth.access import Identity, allowed
from expunge.web.auth.roles import Role
from expunge.web.jobs import job_store
from expunge.workspace import Workspace

API, WHO = "/api/v1", "bea"


@dataclass
class Reader:
    """Somebody who reads, with a cookie or a token."""

    desk: Desk
    client: Any
    token: str | None = None

    @property
    def workspace(self) -> Workspace:
        return self.desk.workspace


def reader(desk: Desk, via: str) -> Reader:
    accounts.create(desk.workspace, "root", Role.ADMIN, "correct horse battery staple")
    account = desk.account(WHO, Role.OFFICER)
    if via == "cookie":
        return Reader(desk, desk.signed_in(Role.OFFICER, WHO))
    made, secret = tokens.make(desk.workspace, account.id, Role.OFFICER, "t", ["desk.view"], 1)
    return Reader(desk, desk.client(Authorization=f"Bearer {secret}"), made.id)


def revoke(who: Reader) -> None:
    assert who.token is not None
    tokens.revoke(who.workspace, who.token)


def close(who: Reader) -> None:
    accounts.change(who.workspace, WHO, disabled=True)


def change_role(who: Reader) -> None:
    accounts.change(who.workspace, WHO, role=Role.ENGINEER)


def sign_out(who: Reader) -> None:
    assert who.client.delete(f"{API}/session").status_code == 204


def change_password(who: Reader) -> None:
    account = accounts.find(who.workspace, WHO)
    accounts.change_password(who.workspace, account.id, "another correct horse battery")


def expire(who: Reader) -> None:
    clock = who.workspace.clock
    assert isinstance(clock, Clock)
    clock.go(days=2)


def idle(who: Reader) -> None:
    clock = who.workspace.clock
    assert isinstance(clock, Clock)
    clock.go(seconds=who.desk.settings.session_idle.total_seconds() + 1)


ENDINGS: dict[str, tuple[str, Callable[[Reader], None]]] = {
    "the token is revoked": ("token", revoke),
    "the token expires": ("token", expire),
    "the account of a token is closed": ("token", close),
    "the account is closed": ("cookie", close),
    "the role changes": ("cookie", change_role),
    "somebody signs out": ("cookie", sign_out),
    "the password changes": ("cookie", change_password),
    "the session expires": ("cookie", expire),
    "nobody uses the session": ("cookie", idle),
}


def follow(who: Reader, monkeypatch: pytest.MonkeyPatch, end: Callable[[Reader], None] | None) -> str:
    """Follow a job that goes on after the reader's right ended; returns what was told."""
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.001)
    job_store.submit(who.workspace, job_store.RUN_DUE, {}, "ann")
    with who.workspace.session(write=True) as session:
        job = job_store.claim(session, 0, os.getpid(), who.workspace.clock())
    assert job is not None
    looks, really = iter(range(100)), job_store.find

    def look(served: Workspace, job_id: str) -> job_store.Job:
        number, found = next(looks), really(served, job_id)
        if number == 1 and end is not None:
            end(who)
        with served.session(write=True) as session:
            if number == 1:
                job_store.record_heartbeat(session, job_id, served.clock(), {"line": "later"})
            elif number == 4:
                job_store.finish(session, job_id, served.clock(), {"requests": []})
        return found

    monkeypatch.setattr(job_store, "find", look)
    answer = who.client.get(f"{API}/jobs/{job.id}/events")
    assert answer.status_code == 200
    return str(answer.text)


@pytest.mark.parametrize("name", ENDINGS)
def test_a_stream_ends_with_the_right_to_follow(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    via, end = ENDINGS[name]
    text = follow(reader(desk, via), monkeypatch, end)
    assert "event: progress" in text
    assert "later" not in text
    assert "event: end" not in text


@pytest.mark.parametrize("via", ["cookie", "token"])
def test_a_stream_goes_on_for_who_may_follow(desk: Desk, via: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control; a role that keeps the permission ends no token's stream."""
    text = follow(reader(desk, via), monkeypatch, change_role if via == "token" else None)
    assert "later" in text
    assert "event: end" in text


def test_following_is_no_use_of_a_session(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a page that is left open would keep its session for ever."""
    who = reader(desk, "cookie")
    used: list[str] = []
    monkeypatch.setattr(desk.app.state.trail, "used", used.append)

    def pass_time(_: Reader) -> None:
        clock = who.workspace.clock
        assert isinstance(clock, Clock)
        clock.go(seconds=sessions.SEEN_EVERY.total_seconds() + 1)

    assert "event: end" in follow(who, monkeypatch, pass_time)
    assert used == []


@pytest.mark.parametrize("name", [name for name in ENDINGS if name != "somebody signs out"])
def test_a_slow_answer_is_withheld(desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right ended while a page or an object was made."""
    monkeypatch.setattr(guard, "RECHECK_SECONDS", 0.0)
    via, end = ENDINGS[name]
    who, really, slow = reader(desk, via), queries.log_page, []

    def log_page(*args: Any, **named: Any) -> Any:
        found = really(*args, **named)
        if slow:
            end(who)
        return found

    monkeypatch.setattr(queries, "log_page", log_page)
    path = "/log" if via == "cookie" else f"{API}/log"
    before = who.client.get(path)
    assert before.status_code == 200
    slow.append(True)
    after = who.client.get(path)
    assert after.status_code == 401
    assert after.headers["WWW-Authenticate"]
    assert before.content not in after.content
    assert "Content-Security-Policy" in after.headers


def test_a_download_breaks_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RECHECK_SECONDS", 0.0)
    who = reader(desk, "token")

    def parts() -> Iterator[str]:
        yield "first"
        yield "second"
        if ends:
            revoke(who)
        yield "third"
        yield "fourth"

    def download(_: Annotated[Identity, Depends(allowed("desk.view"))]) -> StreamingResponse:
        return StreamingResponse(parts())

    ends: list[bool] = []
    desk.app.add_api_route(f"{API}/download", download)
    assert who.client.get(f"{API}/download").text == "firstsecondthirdfourth"
    ends.append(True)
    assert who.client.get(f"{API}/download").text == "firstsecond"


def test_what_was_done_is_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing out ends the session, and is told; pages for everybody need no session."""
    monkeypatch.setattr(guard, "RECHECK_SECONDS", 0.0)
    who = reader(desk, "cookie")
    sign_out(who)
    assert who.client.get("/static/desk.js").status_code == 200
