# SPDX-License-Identifier: Apache-2.0
"""An unlearning that waits for a person: the API and the request's page say so."""

from __future__ import annotations

from importlib import import_module

import pytest
from desk_kit import Desk
from requests_kit import PEOPLE
from sqlalchemy import update

from expunge.catalog.tables import RequestRow
from expunge.erasure import holds
from expunge.web.auth.roles import Role
from expunge.workspace import Workspace

API = "/api/v1"


def test_what_a_person_must_decide_is_shown(
    desk: Desk, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    officer = desk.signed_in(Role.OFFICER)
    request = officer.post(f"{API}/requests", json={"subjects": [PEOPLE[0]]}).json()["request"]
    assert officer.get(f"{API}/requests/{request}").json()["held"] == []
    assert "A person must decide" not in officer.get(f"/requests/{request}").text
    hold = holds.HeldModel("m", (request,), "finetune", 2)
    with workspace.session(write=True) as session:  # an audit turned its model down
        session.execute(update(RequestRow).where(RequestRow.id == request).values(state="running"))
    for place in ("expunge.erasure.holds.held", "expunge.web.queries.queue.held"):
        monkeypatch.setattr(import_module(place.rpartition(".")[0]), "held", lambda *_: {"m": hold})
    for shown in (
        officer.get(f"{API}/requests/{request}").json(),
        officer.get(f"{API}/requests").json()["items"][0],
    ):
        assert shown["held"] == [hold.as_json()]
    page = officer.get(f"/requests/{request}").text
    assert "A person must decide how to continue with m" in page
    assert "The audit did not accept" in page
