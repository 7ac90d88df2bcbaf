# SPDX-License-Identifier: Apache-2.0
"""The legal clock of a request, as pure functions: what is due when, under which rule. No legal advice.

Periods are reckoned as Regulation (EEC, Euratom) No 1182/71, article 3 does: the day of receipt does not
count; a period of months ends with the last hour of the day that has the same number, or of the month's last
day where there is none. GDPR article 12(3): an answer within one month of receipt, extendable by two further
months, which is told with reasons within the first; article 12(4): a refusal is told within one month.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from expunge.errors import InputError


@dataclass(frozen=True)
class Rules:
    """What the law gives, and what the house adds; every value may be set in the workspace.

    Attributes:
        months: Within how many months of receipt a request is answered.
        extension_months: By how many further months that may be put off at most.
        lead_days: So many days before its due date a request must be executed.
        reminder_days: So many days before its due date somebody is reminded.
        zone: Name of the time zone in which days end.
        roll_to_working_day: A period that would end on a Saturday, a Sunday or a holiday ends with the next
            working day (Regulation 1182/71, article 3(4)). Off: the earlier day, the stricter reading.
        holidays: Days on which nobody works.
        tolerance_minutes: By how much a machine's clock may go back before somebody is asked about it.
    """

    months: int = 1
    extension_months: int = 2
    lead_days: int = 7
    reminder_days: tuple[int, ...] = (14, 7, 3, 1)
    zone: str = "UTC"
    roll_to_working_day: bool = False
    holidays: tuple[date, ...] = ()
    tolerance_minutes: int = 5


DEFAULTS = Rules()


def add_months(day: date, months: int) -> date:
    """Return the day with the same number some months later, or that month's last day."""
    years, month = divmod(day.month - 1 + months, 12)
    last = monthrange(day.year + years, month + 1)[1]
    return date(day.year + years, month + 1, min(day.day, last))


def due(received: datetime, rules: Rules = DEFAULTS, extended_by: int = 0) -> datetime:
    """Return the last moment at which a request can be answered in time, in UTC.

    Args:
        received: When the request came.
        rules: The rules.
        extended_by: Further months, counted like the first from the day of receipt.
    """
    day = add_months(local_day(received, rules), rules.months + extended_by)
    return end_of(_working(day, rules), rules)


def notice_due(received: datetime, rules: Rules = DEFAULTS) -> datetime:
    """Return until when an extension (12(3)) or a refusal (12(4)) must have been told; in UTC."""
    return due(received, rules)


def must_run_by(deadline: datetime, rules: Rules = DEFAULTS) -> datetime:
    """Return when a request must be executed, for its evidence to be there before the deadline; in UTC."""
    return end_of(local_day(deadline, rules) - timedelta(days=rules.lead_days), rules)


def pressing(deadline: datetime, at: datetime, rules: Rules = DEFAULTS) -> bool:
    """Whether what is due then has to be executed now: its last day for that has come."""
    return local_day(at, rules) >= local_day(must_run_by(deadline, rules), rules)


def reminders(deadline: datetime, rules: Rules = DEFAULTS) -> list[date]:
    """Return the days on which somebody is reminded of a deadline, in the rules' time zone."""
    last = local_day(deadline, rules)
    return [last - timedelta(days=days) for days in sorted(rules.reminder_days, reverse=True)]


def days_left(deadline: datetime, at: datetime, rules: Rules = DEFAULTS) -> int:
    """Return how many days are left: 0 on the last day, negative after it."""
    return (local_day(deadline, rules) - local_day(at, rules)).days


def local_day(moment: datetime, rules: Rules = DEFAULTS) -> date:
    """Return the day of a moment in the rules' time zone."""
    return moment.astimezone(zone_of(rules.zone)).date()


def start_of(day: date, rules: Rules = DEFAULTS) -> datetime:
    """Return the first moment of a day in the rules' time zone; in UTC."""
    return datetime.combine(day, time(), zone_of(rules.zone)).astimezone(UTC)


def end_of(day: date, rules: Rules = DEFAULTS) -> datetime:
    """Return the last second of a day in the rules' time zone; in UTC."""
    return start_of(day + timedelta(days=1), rules) - timedelta(seconds=1)


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name.

    Raises:
        InputError: If this machine does not know it.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"There is no time zone {name!r}.",
            "This machine's time zone database does not have it.",
            "Use a name such as Europe/Berlin, or install the package tzdata.",
        ) from error


def parse_moment(text: str, what: str, rules: Rules = DEFAULTS) -> datetime:
    """Read a date (its first moment in the rules' zone) or an ISO 8601 date and time; returns UTC.

    Args:
        text: What was given.
        what: The option, for the error.
        rules: The rules.

    Raises:
        InputError: If it is neither.
    """
    try:
        if len(text) == 10:
            return start_of(date.fromisoformat(text), rules)
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=zone_of(rules.zone))
        return aware.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{what} {text} is not a date.", "Dates are written YYYY-MM-DD.", "Correct it."
        ) from error


def parse_day(text: str, what: str) -> date:
    """Read a date.

    Raises:
        InputError: If it is none.
    """
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{what} {text} is not a date.", "Dates are written YYYY-MM-DD.", "Correct it."
        ) from error


def _working(day: date, rules: Rules) -> date:
    if rules.roll_to_working_day:
        off: Collection[date] = frozenset(rules.holidays)
        while day.weekday() >= 5 or day in off:
            day += timedelta(days=1)
    return day
