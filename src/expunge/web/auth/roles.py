# SPDX-License-Identifier: Apache-2.0
"""Roles and the table of permissions.

Each role has all permissions of the roles before it. An API token has a subset of its account's permissions.
With ``approval.four_eyes`` in the workspace's settings.toml, nobody can approve a request that they filed,
whatever their role. That rule is enforced by :mod:`expunge.erasure.intake`, also for the command line.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The roles, in ascending order."""

    VIEWER = "viewer"
    OFFICER = "officer"
    ENGINEER = "engineer"
    ADMIN = "admin"


def _from(lowest: Role) -> frozenset[Role]:
    """Return a role and all roles above it."""
    ordered = list(Role)
    return frozenset(ordered[ordered.index(lowest) :])


PERMISSIONS: dict[str, frozenset[Role]] = {
    # Counts, states, dates, models, audits, certificates, the log, jobs: no ids or paths of subjects.
    "desk.view": _from(Role.VIEWER),
    "certificates.verify": _from(Role.VIEWER),
    # The user's own name, password and tokens.
    "account.own": _from(Role.VIEWER),
    # The selection of a request: ids of subjects and paths of samples.
    "selection.view": _from(Role.OFFICER),
    # Images of subjects, for decisions about near-duplicates.
    "pictures.view": _from(Role.OFFICER),
    "requests.file": _from(Role.OFFICER),
    "requests.approve": _from(Role.OFFICER),
    "requests.refuse": _from(Role.OFFICER),
    "requests.extend": _from(Role.OFFICER),
    "requests.tell": _from(Role.OFFICER),
    "duplicates.decide": _from(Role.OFFICER),
    # Operations that use the machine's time and change models.
    "requests.run": _from(Role.ENGINEER),
    "audits.run": _from(Role.ENGINEER),
    "certificates.replay": _from(Role.ENGINEER),
    # Accounts, all tokens, and the access log.
    "accounts.manage": _from(Role.ADMIN),
    "trail.view": _from(Role.ADMIN),
}


def may(role: Role, permission: str) -> bool:
    """Return whether a role has a permission.

    Raises:
        KeyError: If the table has no such permission.
    """
    return role in PERMISSIONS[permission]


def permissions_of(role: Role) -> list[str]:
    """Return the permissions of a role, in the order of the table."""
    return [name for name, roles in PERMISSIONS.items() if role in roles]
