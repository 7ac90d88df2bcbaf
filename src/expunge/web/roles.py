# SPDX-License-Identifier: Apache-2.0
"""Who may do what: the roles, and the one table of permissions.

The roles are steps: each may do what the one before may. A token has some of its account's permissions.
With four eyes on (``approval.four_eyes`` in the workspace's settings.toml), whoever filed a request cannot
approve it, whatever the role: that is checked where requests are decided, for the command line as well.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The roles, the least first."""

    VIEWER = "viewer"
    OFFICER = "officer"
    ENGINEER = "engineer"
    ADMIN = "admin"


def _from(least: Role) -> frozenset[Role]:
    """A role and those above it."""
    steps = list(Role)
    return frozenset(steps[steps.index(least) :])


PERMISSIONS: dict[str, frozenset[Role]] = {
    # Counts, states, dates, models, audits, certificates, the log, jobs: nothing that tells who is concerned.
    "desk.view": _from(Role.VIEWER),
    "certificates.verify": _from(Role.VIEWER),
    # One's own name, password and tokens.
    "account.own": _from(Role.VIEWER),
    # What a request asks for: ids of subjects, paths of samples; what of it lies where.
    "selection.view": _from(Role.OFFICER),
    # Pictures of subjects, to decide about near-duplicates.
    "pictures.view": _from(Role.OFFICER),
    "requests.file": _from(Role.OFFICER),
    "requests.approve": _from(Role.OFFICER),
    "requests.refuse": _from(Role.OFFICER),
    "requests.extend": _from(Role.OFFICER),
    "requests.tell": _from(Role.OFFICER),
    "duplicates.decide": _from(Role.OFFICER),
    # What takes the machine's time and changes models.
    "requests.run": _from(Role.ENGINEER),
    "audits.run": _from(Role.ENGINEER),
    "certificates.replay": _from(Role.ENGINEER),
    # Accounts, everybody's tokens, and who saw and did what.
    "accounts.manage": _from(Role.ADMIN),
    "trail.view": _from(Role.ADMIN),
}


def may(role: Role, permission: str) -> bool:
    """Whether a role has a permission; a permission that is not in the table is an error."""
    return role in PERMISSIONS[permission]


def permissions_of(role: Role) -> list[str]:
    """The permissions of a role, in the order of the table."""
    return [name for name, roles in PERMISSIONS.items() if role in roles]
