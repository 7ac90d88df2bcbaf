# SPDX-License-Identifier: Apache-2.0
"""Signed-in browsers: a random cookie, of which a digest is kept, and the CSRF token that belongs to it.

The CSRF token is a digest of the cookie's value under a label of its own: a page may show it, and nobody
finds the cookie from it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from expunge.catalog.desk_tables import AccountRow, SessionRow
from expunge.web import passwords
from expunge.web.accounts import Account, check_password
from expunge.web.roles import Role

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace

SEEN_EVERY = timedelta(minutes=1)  # the use of a session is recorded at most so often


@dataclass(frozen=True)
class SignedIn:
    """A new session; the secret goes into the cookie and is not kept."""

    account: Account
    secret: str
    csrf: str
    expires: datetime


@dataclass(frozen=True)
class Known:
    """The account behind a cookie."""

    account_id: int
    name: str
    role: Role
    digest: str
    stale: bool  # the last use on record is some time ago


def csrf_of(secret: str) -> str:
    """Return the CSRF token of a session."""
    return hashlib.sha256(b"csrf\0" + secret.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def sign_in(
    workspace: Workspace, settings: ServerSettings, name: str, password: str, address: str
) -> SignedIn:
    """Check a password and begin a session, always with a new secret.

    Raises:
        attempts.TooMany: After too many failures.
        InputError: If name or password is wrong.
    """
    return begin(workspace, settings, check_password(workspace, name, password, address))


def begin(workspace: Workspace, settings: ServerSettings, account: Account) -> SignedIn:
    """Begin a session of an account."""
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
    """End a session."""
    with workspace.session(write=True) as session:
        session.execute(delete(SessionRow).where(SessionRow.digest == digest))


def known(workspace: Workspace, settings: ServerSettings, secret: str) -> Known | None:
    """Return whose cookie it is; None if the session ended, or the account was closed."""
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
    return Known(account_id, name, Role(role), digest, at - seen >= SEEN_EVERY)


def used(session: Session, digest: str, at: datetime) -> None:
    """Record when a session was used last."""
    session.execute(update(SessionRow).where(SessionRow.digest == digest).values(seen=at))
