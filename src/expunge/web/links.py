# SPDX-License-Identifier: Apache-2.0
"""One-time links, by which a password is chosen: for the first admin, and for everybody whom an admin adds.

Looking at a link's page changes nothing (a preview in a chat must not use it up): only choosing the password
does. Nobody but the owner ever knows a password, the admin included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete

from expunge.catalog.desk_tables import AccountRow, LinkRow
from expunge.errors import Conflict, NotFound
from expunge.web import accounts, passwords
from expunge.web.accounts import Account
from expunge.web.roles import Role

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy.orm import Session

    from expunge.web.settings import ServerSettings
    from expunge.workspace import Workspace


def first(workspace: Workspace, settings: ServerSettings) -> str:
    """Return the secret of a link for the first admin; earlier ones are not good any more.

    Raises:
        Conflict: If there is an admin already.
    """
    if accounts.has_admin(workspace):
        raise Conflict("There is an admin already.", "", "Ask that person for an account.")
    return _make(workspace, None, settings.link_lifetime)


def invite(
    workspace: Workspace, settings: ServerSettings, name: str, lifetime: timedelta | None = None
) -> str:
    """Return the secret of a link by which an account's owner chooses a password, the first or another.

    Args:
        workspace: Where the account is.
        settings: Of the server.
        name: Of the account.
        lifetime: How long it is good; None: as an admin's invitation.

    Raises:
        NotFound: If there is no account of that name.
    """
    return _make(workspace, accounts.find(workspace, name).id, lifetime or settings.invitation_lifetime)


def look(workspace: Workspace, secret: str) -> str | None:
    """Return for whom a link is: an account's name, or None for the first admin, who chooses one.

    Raises:
        NotFound: If it is not good any more.
    """
    with workspace.session() as session:
        row = _good(session, workspace, secret)
        return None if row.account_id is None else session.get_one(AccountRow, row.account_id).name


def use(workspace: Workspace, secret: str, password: str, name: str | None = None) -> Account:
    """Choose the password, and use the link up.

    Args:
        workspace: Where the accounts are.
        secret: Of the link.
        password: The new password.
        name: Of the first admin; no matter for a link of an account.

    Raises:
        NotFound: If the link is not good any more.
        InputError: If name or password do not fit; the link stays good.
    """
    stored = passwords.hashed(password)
    with workspace.session(write=True) as session:
        row = _good(session, workspace, secret)
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


def _good(session: Session, workspace: Workspace, secret: str) -> LinkRow:
    row = session.get(LinkRow, passwords.digest(secret))
    if row is None or row.used is not None or row.expires <= workspace.clock():
        raise NotFound(
            "This link is not good any more.",
            "It was used, it expired, or there is a newer one.",
            "For the first account, start `expunge serve` again; for another, ask an admin.",
        )
    return row
