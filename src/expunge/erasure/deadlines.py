# SPDX-License-Identifier: Apache-2.0
"""Checks the dates of a request: receipt, deadline, and notices to the person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from expunge.catalog import clock
from expunge.catalog.states import State
from expunge.errors import InputError

if TYPE_CHECKING:
    from expunge.catalog.tables import RequestRow
    from expunge.workspace import Workspace


def request_dates(
    workspace: Workspace, received_text: str | None, due_text: str | None, at: datetime
) -> tuple[datetime, datetime]:
    """Return the moments of receipt and of the deadline of a new request.

    Args:
        workspace: The workspace of the request; its settings hold the rules of the clock.
        received_text: Moment of receipt as given by the user; None: now.
        due_text: Due date as given by the user; None: the legal deadline.
        at: The present moment.

    Raises:
        InputError: If the receipt is in the future, or the due date is in the past or later than the
            legal deadline.
    """
    rules = workspace.settings.rules
    received = at
    if received_text is not None:
        received = clock.parse_moment(received_text, "--received", rules)
    if received > at:
        raise InputError(
            f"--received {received_text} is in the future.",
            f"It is {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC now.",
            "Give the day on which the request was received.",
        )
    deadline = clock.due(received, rules)
    if due_text is None:
        return received, deadline
    wanted = clock.end_of(clock.parse_day(due_text, "--due"), rules)
    if wanted < at:
        raise InputError(f"--due {due_text} is in the past.", "", "Give a day to come, or leave it out.")
    if wanted > deadline:
        raise InputError(
            f"--due {due_text} is later than the law allows.",
            f"A request received then is due on {clock.local_day(deadline, rules)}.",
            "Leave it out, or extend the deadline for a legal reason with `expunge request extend`.",
        )
    return received, wanted


def notice_day(workspace: Workspace, row: RequestRow, told: str, at: datetime) -> str:
    """Return the day of a notice to the person, in ISO 8601.

    Args:
        workspace: The workspace of the request.
        row: The request.
        told: Day of the notice as given by the user.
        at: The present moment.

    Raises:
        InputError: If the day is in the future or before the receipt, or if the notice of an extension came
            after the first month (article 12(3)).
    """
    rules = workspace.settings.rules
    day = clock.parse_day(told, "--told")
    if day > clock.local_day(at, rules):
        raise InputError(f"--told {told} is in the future.", "", "Record the notice once it was sent.")
    if day < clock.local_day(row.received, rules):
        raise InputError(f"--told {told} is before the receipt.", "", "Give the day of the notice.")
    last = clock.local_day(clock.notice_due(row.received, rules), rules)
    if day > last and row.state != State.REFUSED:
        raise InputError(
            f"--told {told} is too late.",
            f"An extension must be notified within the first month, until {last} (article 12(3)).",
            "Execute the request now.",
        )
    return day.isoformat()
