# SPDX-License-Identifier: Apache-2.0
"""Browser sessions: a random cookie, stored as a digest, and its CSRF token.

The CSRF token is a digest of the cookie's value with a label. Pages may show it, because the cookie cannot be
derived from it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from expunge.catalog.desk_tables import AccountRow, SessionRow
from expunge.web.auth import passwords
from expunge.web.auth.accounts import Account, check_password
from expunge.web.auth.roles import Role

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace

SEEN_EVERY = timedelta(minutes=1)  # shortest time between two records of a session's use


@dataclass(frozen=True)
class SignedIn:
    """A new session. The secret goes into the cookie and is not stored."""

    account: Account
    secret: str
    csrf: str
    expires: datetime


@dataclass(frozen=True)
class KnownSession:
    """The account of a valid session cookie. ``stale``: the recorded last use is out of date."""

    account_id: int
    name: str
    role: Role
    digest: str
    stale: bool


def csrf_of(secret: str) -> str:
    """Return the CSRF token of a session, given the cookie's secret."""
    return hashlib.sha256(b"csrf\0" + secret.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Return whether two secrets are equal, in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def sign_in(
    workspace: Workspace, settings: ServerSettings, name: str, password: str, address: str
) -> SignedIn:
    """Check a password and start a session with a new secret.

    Raises:
        attempts.TooMany: If there were too many failed attempts.
        InputError: If the name or password is wrong.
    """
    return begin(workspace, settings, check_password(workspace, name, password, address))


def begin(workspace: Workspace, settings: ServerSettings, account: Account) -> SignedIn:
    """Start a session of an account."""
    at, secret = workspace.clock(), passwords.new_secret()
    expires = at + settings.session_lifetime
    with workspace.session(write=True) as session:
        session.execute(delete(SessionRow).where(SessionRow.expires <= at))
        session.add(
            SessionRow(
                digest=passwords.digest(secret), account_id=account.id, created=at, expires=expires, seen=at
            )
        )
    return SignedIn(account, secret, csrf_of(secret), expires)


def end(workspace: Workspace, digest: str) -> None:
    """End the session with a digest."""
    with workspace.session(write=True) as session:
        session.execute(delete(SessionRow).where(SessionRow.digest == digest))


def find_session(workspace: Workspace, settings: ServerSettings, secret: str) -> KnownSession | None:
    """Return the account of a cookie, or None if the session has ended or the account was closed."""
    at, digest = workspace.clock(), passwords.digest(secret)
    query = (
        select(SessionRow.expires, SessionRow.seen, AccountRow.id, AccountRow.name, AccountRow.role)
        .join(AccountRow, AccountRow.id == SessionRow.account_id)
        .where(SessionRow.digest == digest, AccountRow.disabled.is_(False))
    )
    with workspace.session() as session:
        found = session.execute(query).first()
    if found is None:
        return None
    expires, seen, account_id, name, role = found
    if expires <= at or seen + settings.session_idle <= at:
        return None
    return KnownSession(account_id, name, Role(role), digest, at - seen >= SEEN_EVERY)


def used(session: Session, digest: str, at: datetime) -> None:
    """Record the time of a session's last use."""
    session.execute(update(SessionRow).where(SessionRow.digest == digest).values(seen=at))
