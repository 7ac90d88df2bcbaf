# SPDX-License-Identifier: Apache-2.0
"""Rate limit for failed sign-ins, counted by account and address and kept across restarts."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from expunge.catalog.desk_tables import AttemptRow
from expunge.errors import ExpungeError

if TYPE_CHECKING:
    from expunge.workspace import Workspace

WINDOW = timedelta(minutes=15)
MAX_PER_PAIR = 5  # for one account from one address
MAX_PER_ACCOUNT = 50  # from any address; high, so that a stranger cannot easily lock a user out
MAX_PER_ADDRESS = 50  # for any account


class TooMany(ExpungeError):
    """There were too many failed attempts. ``seconds``: time until the next attempt is allowed."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            "There were too many attempts to sign in.",
            f"After several failures an account waits for {WINDOW.seconds // 60} minutes.",
            f"Try again in {max(1, round(seconds / 60))} minutes.",
        )
        self.seconds = seconds


def count(workspace: Workspace, name: str, address: str) -> None:
    """Count an attempt before the password is checked, so that parallel attempts cannot pass the limit.

    Raises:
        TooMany: If the limit is reached.
    """
    at = workspace.clock()
    limits = {
        _mac(workspace, "together", name, address): MAX_PER_PAIR,
        _mac(workspace, "account", name): MAX_PER_ACCOUNT,
        _mac(workspace, "address", address): MAX_PER_ADDRESS,
    }
    wait = 0
    with workspace.session(write=True) as session:
        session.execute(delete(AttemptRow).where(AttemptRow.at <= at - WINDOW))
        for mac, limit in limits.items():
            number, first = session.execute(
                select(func.count(), func.min(AttemptRow.at)).where(AttemptRow.mac == mac)
            ).one()
            if number >= limit:
                wait = max(wait, _seconds_left(first, at))
        if not wait:
            session.add_all(AttemptRow(mac=mac, at=at) for mac in limits)
    if wait:
        raise TooMany(wait)


def forget(workspace: Workspace, name: str, address: str) -> None:
    """Take back the counted attempt after a successful sign-in, and clear the count of the pair."""
    macs = [
        _mac(workspace, "together", name, address),
        _mac(workspace, "account", name),
        _mac(workspace, "address", address),
    ]
    with workspace.session(write=True) as session:
        session.execute(delete(AttemptRow).where(AttemptRow.mac == macs[0]))
        for mac in macs[1:]:  # remove one attempt each; those of others stay counted
            newest = session.scalar(select(func.max(AttemptRow.id)).where(AttemptRow.mac == mac))
            session.execute(delete(AttemptRow).where(AttemptRow.id == newest))


def _seconds_left(first: datetime, at: datetime) -> int:
    return max(1, int((first + WINDOW - at).total_seconds()))


def _mac(workspace: Workspace, *parts: str) -> str:
    return hmac.digest(workspace.key, "\0".join(("attempt", *parts)).encode(), "sha256").hex()
