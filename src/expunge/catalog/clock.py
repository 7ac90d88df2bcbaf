# SPDX-License-Identifier: Apache-2.0
"""Legal deadlines of a request, as pure functions. This is not legal advice.

Periods follow Regulation (EEC, Euratom) No 1182/71, article 3: the day of receipt does not count. A period of
months ends with the last hour of the day with the same number, or of the last day of a shorter month. GDPR
article 12(3): the controller answers within one month of receipt, extendable by two further months; the
extension and its reasons must be communicated within the first month. Article 12(4): a refusal must be
communicated within one month.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from expunge.errors import InputError


@dataclass(frozen=True)
class DeadlineRules:
    """Statutory periods and in-house margins. Each value can be set in the workspace's settings.

    Attributes:
        months: Period for an answer, in months from receipt.
        extension_months: Longest extension, in months.
        lead_days: Days before the due date by which a request must be executed.
        reminder_days: Days before the due date on which reminders are sent.
        zone: Name of the time zone in which days end.
        roll_to_working_day: Move a period's end from a Saturday, Sunday or holiday to the next working day
            (Regulation 1182/71, article 3(4)). If false, the earlier day counts, the stricter reading.
        holidays: Public holidays.
        tolerance_minutes: How far the machine's clock may go backwards before requests are refused.
    """

    months: int = 1
    extension_months: int = 2
    lead_days: int = 7
    reminder_days: tuple[int, ...] = (14, 7, 3, 1)
    zone: str = "UTC"
    roll_to_working_day: bool = False
    holidays: tuple[date, ...] = ()
    tolerance_minutes: int = 5


DEFAULTS = DeadlineRules()


def add_months(day: date, months: int) -> date:
    """Return the day with the same number some months later, or that month's last day."""
    years, month = divmod(day.month - 1 + months, 12)
    last = monthrange(day.year + years, month + 1)[1]
    return date(day.year + years, month + 1, min(day.day, last))


def due(received: datetime, rules: DeadlineRules = DEFAULTS, extended_by: int = 0) -> datetime:
    """Return the deadline for the answer to a request, in UTC.

    Args:
        received: Time of receipt.
        rules: Deadline rules.
        extended_by: Extension in months, counted from the day of receipt like the first.
    """
    day = add_months(local_day(received, rules), rules.months + extended_by)
    return end_of(_working_day(day, rules), rules)


def notice_due(received: datetime, rules: DeadlineRules = DEFAULTS) -> datetime:
    """Return the deadline for communicating an extension (12(3)) or a refusal (12(4)), in UTC."""
    return due(received, rules)


def must_run_by(deadline: datetime, rules: DeadlineRules = DEFAULTS) -> datetime:
    """Return the latest time for executing a request with its evidence in time for the deadline, in UTC."""
    return end_of(local_day(deadline, rules) - timedelta(days=rules.lead_days), rules)


def must_run_now(deadline: datetime, at: datetime, rules: DeadlineRules = DEFAULTS) -> bool:
    """Return whether a request with this deadline has reached its last day for execution."""
    return local_day(at, rules) >= local_day(must_run_by(deadline, rules), rules)


def reminders(deadline: datetime, rules: DeadlineRules = DEFAULTS) -> list[date]:
    """Return the days on which reminders of a deadline are due, in the rules' time zone."""
    last = local_day(deadline, rules)
    return [last - timedelta(days=days) for days in sorted(rules.reminder_days, reverse=True)]


def days_left(deadline: datetime, at: datetime, rules: DeadlineRules = DEFAULTS) -> int:
    """Return the number of days left: 0 on the last day, negative after it."""
    return (local_day(deadline, rules) - local_day(at, rules)).days


def local_day(moment: datetime, rules: DeadlineRules = DEFAULTS) -> date:
    """Return the day of a moment in the rules' time zone."""
    return moment.astimezone(zone_of(rules.zone)).date()


def start_of(day: date, rules: DeadlineRules = DEFAULTS) -> datetime:
    """Return the start of a day in the rules' time zone, in UTC."""
    return datetime.combine(day, time(), zone_of(rules.zone)).astimezone(UTC)


def end_of(day: date, rules: DeadlineRules = DEFAULTS) -> datetime:
    """Return the last second of a day in the rules' time zone, in UTC."""
    return start_of(day + timedelta(days=1), rules) - timedelta(seconds=1)


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name.

    Raises:
        InputError: If this machine's time zone database does not have it.
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


def parse_moment(text: str, what: str, rules: DeadlineRules = DEFAULTS) -> datetime:
    """Return a date (its start in the rules' zone) or an ISO 8601 date and time as a moment in UTC.

    Args:
        text: The text to parse.
        what: Name of the option, for the error message.
        rules: Deadline rules.

    Raises:
        InputError: If the text is neither.
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
    """Return a date given as YYYY-MM-DD.

    Args:
        text: The text to parse.
        what: Name of the option, for the error message.

    Raises:
        InputError: If the text is not a date.
    """
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{what} {text} is not a date.", "Dates are written YYYY-MM-DD.", "Correct it."
        ) from error


def _working_day(day: date, rules: DeadlineRules) -> date:
    if rules.roll_to_working_day:
        off: Collection[date] = frozenset(rules.holidays)
        while day.weekday() >= 5 or day in off:
            day += timedelta(days=1)
    return day
