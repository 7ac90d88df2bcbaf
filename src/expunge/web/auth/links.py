# SPDX-License-Identifier: Apache-2.0
"""One-time links for choosing a password: for the first admin and for accounts that an admin adds.

Opening a link does not use it up (a chat preview may open it); only choosing the password does. Passwords are
known to the account's owner only, not to admins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete

from expunge.catalog.desk_tables import AccountRow, LinkRow
from expunge.errors import Conflict, NotFound
from expunge.web.auth import accounts, passwords
from expunge.web.auth.accounts import Account
from expunge.web.auth.roles import Role

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy.orm import Session

    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace


def first_admin_link(workspace: Workspace, settings: ServerSettings) -> str:
    """Return the secret of a new link for the first admin. Earlier links become invalid.

    Raises:
        Conflict: If there is already an admin.
    """
    if accounts.has_admin(workspace):
        raise Conflict("There is an admin already.", "", "Ask that person for an account.")
    return _make(workspace, None, settings.link_lifetime)


def invite(
    workspace: Workspace, settings: ServerSettings, name: str, lifetime: timedelta | None = None
) -> str:
    """Return the secret of a new link with which an account's owner chooses a password.

    Args:
        workspace: The workspace that holds the accounts.
        settings: The server's settings.
        name: Name of the account.
        lifetime: Lifetime of the link. Default: that of an invitation.

    Raises:
        NotFound: If the account does not exist.
    """
    return _make(workspace, accounts.find(workspace, name).id, lifetime or settings.invitation_lifetime)


def account_of_link(workspace: Workspace, secret: str) -> str | None:
    """Return the account name of a link, or None for the first admin, who still has to choose one.

    Raises:
        NotFound: If the link is no longer valid.
    """
    with workspace.session() as session:
        row = _valid(session, workspace, secret)
        return None if row.account_id is None else session.get_one(AccountRow, row.account_id).name


def use_link(workspace: Workspace, secret: str, password: str, name: str | None = None) -> Account:
    """Set a password with a link, and use the link up.

    Args:
        workspace: The workspace that holds the accounts.
        secret: Secret of the link.
        password: The new password.
        name: Name of the first admin; ignored for a link of an account.

    Raises:
        NotFound: If the link is no longer valid.
        InputError: If name or password do not fit; the link stays good.
    """
    stored = passwords.hash_password(password)
    with workspace.session(write=True) as session:
        row = _valid(session, workspace, secret)
        row.used = workspace.clock()
        if row.account_id is None:
            if accounts.admins(session):
                raise Conflict("There is an admin already.", "", "Ask that person for an account.")
            account = accounts.add(session, accounts.check_name(name or ""), Role.ADMIN, stored, workspace)
        else:
            account = session.get_one(AccountRow, row.account_id)
            account.password = stored
            accounts.end_sessions(session, account.id)
        chosen = account.name
    return accounts.find(workspace, chosen)


def _make(workspace: Workspace, account_id: int | None, lifetime: timedelta) -> str:
    secret, at = passwords.new_secret(), workspace.clock()
    with workspace.session(write=True) as session:
        session.execute(delete(LinkRow).where(LinkRow.account_id.is_not_distinct_from(account_id)))
        session.execute(delete(LinkRow).where(LinkRow.expires <= at))
        session.add(
            LinkRow(digest=passwords.digest(secret), account_id=account_id, created=at, expires=at + lifetime)
        )
    return secret


def _valid(session: Session, workspace: Workspace, secret: str) -> LinkRow:
    row = session.get(LinkRow, passwords.digest(secret))
    if row is None or row.used is not None or row.expires <= workspace.clock():
        raise NotFound(
            "This link is no longer valid.",
            "It was used, it expired, or there is a newer one.",
            "For the first account, start `expunge serve` again; for another, ask an admin.",
        )
    return row
