# SPDX-License-Identifier: Apache-2.0
"""Accounts of the desk's users, and their passwords."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from expunge.catalog.desk_tables import AccountRow, LinkRow, SessionRow, TokenRow
from expunge.errors import Conflict, InputError, NotFound
from expunge.web.auth import attempts, passwords
from expunge.web.auth.roles import PERMISSIONS, Role, may, permissions_of

if TYPE_CHECKING:
    from expunge.workspace import Workspace

__all__ = ["PERMISSIONS", "Account", "Role", "may", "permissions_of"]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Account:
    """An account, as a value. ``waits``: no password was chosen yet."""

    id: int
    name: str
    role: Role
    disabled: bool
    waits: bool
    created: str


def check_name(name: str) -> str:
    """Return an account name in its stored form (stripped, lower case).

    Raises:
        InputError: If the name is invalid.
    """
    normalised = name.strip().lower()
    if not NAME.fullmatch(normalised):
        raise InputError(
            "That is not a valid account name.",
            "Names are up to 64 letters, digits, '.', '_' and '-', and begin with a letter or digit.",
            "Choose another.",
        )
    return normalised


def listing(workspace: Workspace) -> list[Account]:
    """Return all accounts, by name."""
    with workspace.session() as session:
        rows = session.scalars(select(AccountRow).order_by(AccountRow.name)).all()
        return [_value(row) for row in rows]


def find(workspace: Workspace, name: str) -> Account:
    """Return an account by name.

    Raises:
        NotFound: If it does not exist.
    """
    with workspace.session() as session:
        return _value(row_of(session, name))


def has_admin(workspace: Workspace) -> bool:
    """Return whether there is an active admin account."""
    with workspace.session() as session:
        return bool(admins(session))


def create(workspace: Workspace, name: str, role: Role, password: str | None = None) -> Account:
    """Create an account. Without a password, its owner chooses one with a one-time link.

    Raises:
        InputError: If the name or password is invalid.
        Conflict: If the name is taken.
    """
    normalised = check_name(name)
    stored = passwords.hash_password(password) if password is not None else None
    with workspace.session(write=True) as session:
        return _value(add(session, normalised, role, stored, workspace))


def add(session: Session, name: str, role: Role, stored: str | None, workspace: Workspace) -> AccountRow:
    """Add an account within a session that holds the write lock."""
    if session.scalar(select(AccountRow.id).where(AccountRow.name == name)) is not None:
        raise Conflict(f"There is an account {name!r} already.", "", "Choose another name.")
    row = AccountRow(name=name, role=str(role), password=stored, disabled=False, created=workspace.clock())
    session.add(row)
    session.flush()
    return row


def change(
    workspace: Workspace, name: str, *, role: Role | None = None, disabled: bool | None = None
) -> Account:
    """Change an account's role, or close or reopen it. Its sessions end; closing also revokes its tokens.

    Raises:
        NotFound: If the account does not exist.
        Conflict: If no active admin would be left.
    """
    with workspace.session(write=True) as session:
        row = row_of(session, name)
        row.role = row.role if role is None else str(role)
        row.disabled = row.disabled if disabled is None else disabled
        session.flush()
        if not admins(session):
            raise Conflict(
                f"{row.name} is the last admin.",
                "Nobody could manage the accounts any more.",
                "Make somebody else an admin first.",
            )
        end_sessions(session, row.id)
        if row.disabled:
            at = workspace.clock()
            own = TokenRow.account_id == row.id
            session.execute(update(TokenRow).where(own, TokenRow.revoked.is_(None)).values(revoked=at))
            session.execute(delete(LinkRow).where(LinkRow.account_id == row.id))
        return _value(row)


def check_password(workspace: Workspace, name: str, password: str, address: str) -> Account:
    """Return the account that matches a name and a password.

    Args:
        workspace: The workspace that holds the accounts.
        name: The name as typed.
        password: The password as typed.
        address: The client's address, for counting failed attempts.

    Raises:
        attempts.TooMany: If there were too many failed attempts.
        InputError: If the name or password is wrong; the message does not say which.
    """
    normalised = name.strip().lower()[:100]
    attempts.count(workspace, normalised, address)
    with workspace.session() as session:
        row = session.scalar(select(AccountRow).where(AccountRow.name == normalised))
        stored = row.password if row is not None and not row.disabled else None
        found = _value(row) if row is not None else None
    if not passwords.verify_password(stored, password) or found is None:
        raise InputError("Name or password is wrong.", "", "Try again, or ask an admin for a new link.")
    attempts.forget(workspace, normalised, address)
    return found


def change_password(workspace: Workspace, account_id: int, password: str, keep: str | None = None) -> None:
    """Set an account's password and end all of its sessions except one.

    Args:
        workspace: The workspace that holds the accounts.
        account_id: Id of the account.
        password: The new password.
        keep: Digest of the session to keep.

    Raises:
        InputError: If the password is too short or too long.
    """
    stored = passwords.hash_password(password)
    with workspace.session(write=True) as session:
        row = session.get_one(AccountRow, account_id)
        row.password = stored
        end_sessions(session, account_id, keep)


def end_sessions(session: Session, account_id: int, keep: str | None = None) -> None:
    """End an account's sessions, except the one with the digest ``keep``."""
    query = delete(SessionRow).where(SessionRow.account_id == account_id)
    session.execute(query if keep is None else query.where(SessionRow.digest != keep))


def row_of(session: Session, name: str) -> AccountRow:
    """Return the row of an account by name.

    Raises:
        NotFound: If it does not exist.
    """
    row = session.scalar(select(AccountRow).where(AccountRow.name == name.strip().lower()))
    if row is None:
        raise NotFound("There is no such account.", "", "See the accounts for their names.")
    return row


def count(workspace: Workspace) -> int:
    """Return the number of accounts."""
    with workspace.session() as session:
        return session.scalar(select(func.count()).select_from(AccountRow)) or 0


def admins(session: Session) -> Sequence[int]:
    """Return the ids of the active admin accounts."""
    query = select(AccountRow.id).where(
        AccountRow.role == str(Role.ADMIN), AccountRow.disabled.is_(False), AccountRow.password.is_not(None)
    )
    return session.scalars(query).all()


def _value(row: AccountRow) -> Account:
    created = row.created.isoformat(timespec="seconds")
    return Account(row.id, row.name, Role(row.role), row.disabled, row.password is None, created)
