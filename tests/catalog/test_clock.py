# SPDX-License-Identifier: Apache-2.0
"""Legal deadlines, compared with a slow implementation and with dateutil if it is installed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.catalog import clock
from expunge.catalog.clock import DeadlineRules, add_months
from expunge.errors import InputError

DAYS = st.dates(date(1990, 1, 1), date(2090, 1, 1))


def slowly(day: date, months: int) -> date:
    """Return the date some months later by walking day by day, then back to an existing day."""
    first = day.replace(day=1)
    for _ in range(months):
        month = first.month
        while first.month == month:
            first += timedelta(days=1)
    found = first
    while found.day != day.day and (found + timedelta(days=1)).month == first.month:
        found += timedelta(days=1)
    return found


@given(DAYS, st.integers(0, 15))
def test_months_against_a_walk(day: date, months: int) -> None:
    assert add_months(day, months) == slowly(day, months)


@given(DAYS, st.integers(0, 240))
def test_months_against_dateutil(day: date, months: int) -> None:
    relative = pytest.importorskip("dateutil.relativedelta", reason="dateutil is not installed")
    assert add_months(day, months) == day + relative.relativedelta(months=months)


@pytest.mark.parametrize(
    ("received", "months", "wanted"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2024-01-31", 1, "2024-02-29"),
        ("2026-01-31", 3, "2026-04-30"),
        ("2026-02-28", 1, "2026-03-28"),
        ("2026-12-15", 1, "2027-01-15"),
        ("2026-11-30", 3, "2027-02-28"),
    ],
)
def test_a_calendar_month(received: str, months: int, wanted: str) -> None:
    assert add_months(date.fromisoformat(received), months) == date.fromisoformat(wanted)


def test_days_end_in_the_configured_time_zone() -> None:
    """23:30 in UTC is already the next day in Berlin, for receipt and for the due date."""
    moment = datetime(2026, 1, 30, 23, 30, tzinfo=UTC)
    assert clock.due(moment) == datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
    berlin = DeadlineRules(zone="Europe/Berlin")
    assert clock.due(moment, berlin) == datetime(2026, 2, 28, 22, 59, 59, tzinfo=UTC)
    assert clock.local_day(moment, berlin) == date(2026, 1, 31)
    summer = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert clock.due(summer, berlin) == datetime(2026, 4, 10, 21, 59, 59, tzinfo=UTC), "summer time began"


def test_an_extension_counts_from_the_receipt() -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert clock.due(moment, extended_by=2).date() == date(2026, 4, 30)
    assert clock.notice_due(moment).date() == date(2026, 2, 28)


def test_weekends_and_holidays_count_only_if_set() -> None:
    moment = datetime(2026, 1, 28, 12, tzinfo=UTC)  # a month later is a Saturday
    assert clock.due(moment).date() == date(2026, 2, 28)
    rolled = DeadlineRules(roll_to_working_day=True, holidays=(date(2026, 3, 2),))
    assert clock.due(moment, rolled).date() == date(2026, 3, 3)


@given(DAYS, st.integers(0, 30))
def test_must_run_by(day: date, lead: int) -> None:
    rules = DeadlineRules(lead_days=lead, reminder_days=(7, 1))
    deadline = clock.end_of(day, rules)
    assert clock.local_day(clock.must_run_by(deadline, rules)) == day - timedelta(days=lead)
    assert clock.reminders(deadline, rules) == [day - timedelta(days=7), day - timedelta(days=1)]
    assert clock.days_left(deadline, clock.start_of(day, rules), rules) == 0
    assert clock.days_left(deadline, deadline + timedelta(seconds=1), rules) == -1


@pytest.mark.parametrize("text", ["2026-13-01", "tomorrow", "2026-02-30", "20260101", "", "2026-1-1"])
def test_invalid_dates(text: str) -> None:
    with pytest.raises(InputError, match="not a date"):
        clock.parse_day(text, "--due")
    if text != "20260101":  # also valid in ISO 8601
        with pytest.raises(InputError, match="not a date"):
            clock.parse_moment(text, "--received")


def test_moments() -> None:
    berlin = DeadlineRules(zone="Europe/Berlin")
    assert clock.parse_moment("2026-01-31", "x", berlin) == datetime(2026, 1, 30, 23, tzinfo=UTC)
    assert clock.parse_moment("2026-01-31T10:00", "x", berlin) == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert clock.parse_moment("2026-01-31T10:00+05:00", "x") == datetime(2026, 1, 31, 5, tzinfo=UTC)
    with pytest.raises(InputError, match="no time zone"):
        clock.zone_of("Europe/Nowhere")
