# SPDX-License-Identifier: Apache-2.0
"""Slows guessing down: failed attempts to sign in are counted by account and address, across restarts."""

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
MOST_TOGETHER = 5  # of one account from one address
MOST_OF_ACCOUNT = 50  # from anywhere: high, so that a stranger does not lock somebody out by a few words
MOST_OF_ADDRESS = 50  # for any account


class TooMany(ExpungeError):
    """There were too many failures; ``seconds``: when to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            "There were too many attempts to sign in.",
            f"After several failures an account waits for {WINDOW.seconds // 60} minutes.",
            f"Try again in {max(1, round(seconds / 60))} minutes.",
        )
        self.seconds = seconds


def count(workspace: Workspace, name: str, address: str) -> None:
    """Count an attempt before it is looked at, so that many at once are no way around the limit.

    Raises:
        TooMany: If there were too many; this one is not looked at.
    """
    at = workspace.clock()
    limits = {
        _mac(workspace, "together", name, address): MOST_TOGETHER,
        _mac(workspace, "account", name): MOST_OF_ACCOUNT,
        _mac(workspace, "address", address): MOST_OF_ADDRESS,
    }
    wait = 0
    with workspace.session(write=True) as session:
        session.execute(delete(AttemptRow).where(AttemptRow.at <= at - WINDOW))
        for mac, most in limits.items():
            number, first = session.execute(
                select(func.count(), func.min(AttemptRow.at)).where(AttemptRow.mac == mac)
            ).one()
            if number >= most:
                wait = max(wait, _left(first, at))
        if not wait:
            session.add_all(AttemptRow(mac=mac, at=at) for mac in limits)
    if wait:
        raise TooMany(wait)


def forget(workspace: Workspace, name: str, address: str) -> None:
    """Take back what was counted for an account and an address: somebody signed in."""
    macs = [
        _mac(workspace, "together", name, address),
        _mac(workspace, "account", name),
        _mac(workspace, "address", address),
    ]
    with workspace.session(write=True) as session:
        session.execute(delete(AttemptRow).where(AttemptRow.mac == macs[0]))
        for mac in macs[1:]:  # one each: the failures of others stay counted
            newest = session.scalar(select(func.max(AttemptRow.id)).where(AttemptRow.mac == mac))
            session.execute(delete(AttemptRow).where(AttemptRow.id == newest))


def _left(first: datetime, at: datetime) -> int:
    return max(1, int((first + WINDOW - at).total_seconds()))


def _mac(workspace: Workspace, *parts: str) -> str:
    return hmac.digest(workspace.key, "\0".join(("attempt", *parts)).encode(), "sha256").hex()
