# SPDX-License-Identifier: Apache-2.0
"""API tokens: shown once, stored as digests, with an expiry date and a subset of permissions."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from expunge.catalog.desk_tables import AccountRow, TokenRow
from expunge.errors import InputError, NotFound
from expunge.web.auth import passwords
from expunge.web.auth.roles import PERMISSIONS, Role, may

if TYPE_CHECKING:
    from expunge.workspace import Workspace

PREFIX = "expunge_"  # recognised by scanners for leaked secrets
MOST_DAYS = 366


@dataclass(frozen=True)
class Token:
    """A token, as a value, without its secret."""

    id: str
    account: str
    name: str
    scopes: tuple[str, ...]
    created: str
    expires: str
    revoked: str | None


@dataclass(frozen=True)
class Bearer:
    """The account of a valid token, and the token's permissions."""

    account_id: int
    name: str
    role: Role
    token_id: str
    scopes: frozenset[str]


def make(
    workspace: Workspace, account_id: int, role: Role, name: str, scopes: Sequence[str], days: int
) -> tuple[Token, str]:
    """Create a token; return it and its secret, which is not stored.

    Args:
        workspace: The workspace that holds the accounts.
        account_id: Id of the token's account.
        role: Role of the account.
        name: Purpose of the token.
        scopes: Permissions of the token, a subset of the account's.
        days: Lifetime in days.

    Raises:
        InputError: If a scope is not one of the account's permissions, or the lifetime or name is invalid.
    """
    not_allowed = [scope for scope in scopes if scope not in PERMISSIONS or not may(role, scope)]
    if not_allowed or not scopes:
        raise InputError(
            "The scopes are not allowed.",
            "A token has one or more of its account's permissions, and no other.",
            f"Choose from: {', '.join(p for p in PERMISSIONS if may(role, p))}.",
        )
    if not 1 <= days <= MOST_DAYS:
        raise InputError("A token must expire.", f"It is valid for 1 to {MOST_DAYS} days.", "Give fewer.")
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise InputError("The token needs a short name.", "", "Say what it is for.")
    secret, at = PREFIX + passwords.new_secret(), workspace.clock()
    with workspace.session(write=True) as session:
        row = TokenRow(
            id=f"t-{secrets.token_hex(8)}",
            account_id=account_id,
            name=name.strip(),
            digest=passwords.digest(secret),
            scopes=sorted(set(scopes)),
            created=at,
            expires=at + timedelta(days=days),
        )
        session.add(row)
        session.flush()
        return _value(row, session.get_one(AccountRow, account_id).name), secret


def listing(workspace: Workspace, account_id: int | None = None) -> list[Token]:
    """Return the tokens of one account, or of all accounts, newest first."""
    query = select(TokenRow, AccountRow.name).join(AccountRow, AccountRow.id == TokenRow.account_id)
    if account_id is not None:
        query = query.where(TokenRow.account_id == account_id)
    with workspace.session() as session:
        rows = session.execute(query.order_by(TokenRow.created.desc(), TokenRow.id)).all()
        return [_value(row, name) for row, name in rows]


def revoke(workspace: Workspace, token_id: str, account_id: int | None = None) -> None:
    """Revoke a token.

    Args:
        workspace: The workspace that holds the accounts.
        token_id: Id of the token.
        account_id: Only a token of this account. Default: of any account.

    Raises:
        NotFound: If there is no such token.
    """
    conditions = [TokenRow.id == token_id]
    if account_id is not None:
        conditions.append(TokenRow.account_id == account_id)
    with workspace.session(write=True) as session:
        if session.scalar(select(TokenRow.id).where(*conditions)) is None:
            raise NotFound("There is no such token.", "", "See the tokens for their ids.")
        at = workspace.clock()
        session.execute(update(TokenRow).where(*conditions, TokenRow.revoked.is_(None)).values(revoked=at))


def find_token(workspace: Workspace, secret: str) -> Bearer | None:
    """Return the account of a token, or None if it expired, was revoked, or its account was closed."""
    if not secret.startswith(PREFIX):
        return None
    query = (
        select(TokenRow, AccountRow)
        .join(AccountRow, AccountRow.id == TokenRow.account_id)
        .where(TokenRow.digest == passwords.digest(secret))
    )
    with workspace.session() as session:
        found = session.execute(query).first()
        if found is None:
            return None
        row, account = found
        if row.revoked is not None or row.expires <= workspace.clock() or account.disabled:
            return None
        return Bearer(account.id, account.name, Role(account.role), row.id, frozenset(row.scopes))


def _value(row: TokenRow, account: str) -> Token:
    moments = [m and m.isoformat(timespec="seconds") for m in (row.created, row.expires, row.revoked)]
    return Token(row.id, account, row.name, tuple(row.scopes), moments[0], moments[1], moments[2])  # type: ignore[arg-type]
