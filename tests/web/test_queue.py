# SPDX-License-Identifier: Apache-2.0
"""The queue in pages: the order of a plain sort, and the work of one page however long the queue is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from desk_kit import Desk
from requests_kit import START
from sqlalchemy import event, insert, text

from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.web import queries
from expunge.web.auth.roles import Role
from expunge.web.pages import queue
from expunge.web.queries import pages
from expunge.web.queries.queue import PENDING
from expunge.workspace import Workspace

MANY = 300


@pytest.fixture
def crowded(workspace: Workspace) -> list[dict[str, Any]]:
    """Requests in all states, some without a due date of their own, many due at the same moment."""
    dice = random.Random(0)
    rows = []
    for number in range(MANY):
        received = START - timedelta(days=dice.randrange(90))
        rows.append(
            {
                "id": f"r-{dice.getrandbits(64):016x}",
                "dataset_id": 1,
                "state": str(dice.choice([s for s in State if s != State.REFUSED])),
                "method": "auto",
                "selection": {"samples": 2, "subjects": 1, "models": []},
                "version_before": 1,
                "received": received,
                "due": None if number % 5 == 0 else received + timedelta(days=30),
            }
        )
    with workspace.session(write=True) as session:
        session.execute(insert(RequestRow), rows)
    return rows


def sorted_slowly(rows: list[dict[str, Any]], *states: str) -> list[str]:
    found = [row for row in rows if not states or row["state"] in states]
    found.sort(key=lambda r: (r["state"] == "closed", r["due"] or r["received"], r["id"]))
    return [row["id"] for row in found]


def walked(workspace: Workspace, limit: int, **asked: Any) -> list[str]:
    """The ids of all pages, each asked for with the cursor of the one before."""
    found, cursor = [], None
    while True:
        part = queries.queue(workspace, limit=limit, cursor=cursor, **asked)
        found += [item["request"] for item in part.items]
        if part.next is None:
            assert part.total == len(found)
            return found
        assert len(part.items) == limit
        cursor = part.next


@pytest.mark.parametrize("limit", [1, 7, MANY - 1, MANY])
def test_pages_are_the_sorted_list(workspace: Workspace, crowded: list[dict[str, Any]], limit: int) -> None:
    assert walked(workspace, limit) == sorted_slowly(crowded)


@pytest.mark.parametrize("states", [("closed",), ("scoped", "closed"), ("approved", "failed")])
def test_pages_of_some_states(
    workspace: Workspace, crowded: list[dict[str, Any]], states: tuple[str, ...]
) -> None:
    assert walked(workspace, 20, states=states) == sorted_slowly(crowded, *states)
    assert walked(workspace, 20, states=states, dataset="shop") == sorted_slowly(crowded, *states)
    assert walked(workspace, 20, states=states, dataset="none") == []


def test_what_is_late(workspace: Workspace, crowded: list[dict[str, Any]]) -> None:
    late = [r for r in crowded if (r["due"] or r["received"]) < START and r["state"] in list(PENDING)]
    assert late
    assert walked(workspace, 20, overdue=True) == sorted_slowly(late)
    assert queries.count_overdue(workspace) == queries.counts(workspace)["overdue"] == len(late)
    assert walked(workspace, 20, overdue=True, states=["closed"]) == []


@pytest.fixture
def asked(workspace: Workspace) -> Iterator[list[tuple[str, Any]]]:
    """What the catalog is asked from now on."""
    found: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        found.append((statement, values))

    event.listen(workspace._engine, "before_cursor_execute", note)
    yield found
    event.remove(workspace._engine, "before_cursor_execute", note)


def plans(workspace: Workspace, asked: list[tuple[str, Any]]) -> list[str]:
    """How the database answers the queries of a list, as far as they are about requests."""
    with workspace._engine.connect() as connection:
        return [
            str(row[3])
            for statement, values in list(asked)
            if "FROM request" in statement
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]


AFTER = pages.encode([0, datetime(2026, 1, 20, tzinfo=UTC).replace(tzinfo=None).isoformat(), "r-0"])


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"cursor": AFTER},
        {"states": [str(s) for s in State if s != State.CLOSED]},
        {"states": ["closed"]},
        {"dataset": "shop"},
        {"overdue": True},
    ],
    ids=str,
)
def test_a_page_sorts_and_reads_no_more_than_it_shows(
    workspace: Workspace, crowded: list[dict[str, Any]], asked: list[tuple[str, Any]], wanted: dict[str, Any]
) -> None:
    queries.queue(workspace, limit=5, **wanted)
    found = plans(workspace, asked)
    assert any("request_queue" in step for step in found), found
    assert not any("B-TREE" in step for step in found), found
    scans = [step for step in found if step.startswith("SCAN") and "COVERING" not in step]
    assert len(scans) == ("dataset" in wanted), found  # those of one dataset are counted row by row


def test_without_the_index_it_would_sort(
    workspace: Workspace, crowded: list[dict[str, Any]], asked: list[tuple[str, Any]]
) -> None:
    """The control."""
    with workspace._engine.begin() as connection:
        connection.execute(text("DROP INDEX request_queue"))
    queries.queue(workspace, limit=5)
    assert any("B-TREE" in step for step in plans(workspace, asked))


def test_savings_of_very_many_are_not_worked_out_for_a_page(
    workspace: Workspace, crowded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MOST_WAITING", 3)
    monkeypatch.setattr(queue, "waiting_costs", lambda _: pytest.fail("it was worked out"))
    answer = Desk(workspace).signed_in(Role.VIEWER).get("/requests/savings")
    several = sum(row["state"] in ("scoped", "approved") for row in crowded)
    assert f"{several} requests wait." in answer.text


@pytest.mark.parametrize("position", [[2**63], [-(2**63)], ["1"], [True], [1, 2], []], ids=str)
def test_a_cursor_that_no_database_knows(desk: Desk, position: list[Any]) -> None:
    answer = desk.signed_in(Role.ADMIN).get("/api/v1/trail", params={"cursor": pages.encode(position)})
    assert answer.status_code == 422, answer.text
    odd = pages.encode([0, "2026-01-01T00:00:00", "r-\0"])
    assert desk.signed_in(Role.ADMIN).get("/api/v1/requests", params={"cursor": odd}).status_code == 422
