# SPDX-License-Identifier: Apache-2.0
"""Tables of the officer's desk: accounts, sessions, tokens, who saw and did what, and long work.

Secrets are kept as digests alone: whoever reads the database can sign in as nobody. Nothing here names a
data subject; the accounts are those of the people who work at the desk.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from expunge.catalog.tables import Base, now


class AccountRow(Base):
    """Somebody who works at the desk; ``password``: an Argon2 hash, None until one was chosen."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str | None] = mapped_column(String(200))
    disabled: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)


class SessionRow(Base):
    """A signed-in browser. ``digest``: SHA-256 of the cookie's random value."""

    __tablename__ = "account_session"
    __table_args__ = (Index("account_session_account", "account_id"),)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    seen: Mapped[datetime]


class TokenRow(Base):
    """A token for a program. ``digest``: SHA-256 of its secret, which was shown once."""

    __tablename__ = "account_token"
    __table_args__ = (
        Index("account_token_account", "account_id"),
        Index("account_token_digest", "digest", unique=True),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(100))
    digest: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]]
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    revoked: Mapped[datetime | None]


class LinkRow(Base):
    """A one-time link by which a password is chosen: for the first admin, or for an account that waits."""

    __tablename__ = "account_link"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))  # None: the first admin's
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    used: Mapped[datetime | None]


class AttemptRow(Base):
    """A failed attempt to sign in. ``mac``: keyed digest of what is counted; no name, no address."""

    __tablename__ = "account_attempt"
    __table_args__ = (Index("account_attempt_mac", "mac", "at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    mac: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]


class TrailRow(Base):
    """Who saw or did what at the desk. ``object``: a request, model, dataset or job; nobody's id or file."""

    __tablename__ = "desk_trail"
    __table_args__ = (Index("desk_trail_account", "account"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    account: Mapped[str] = mapped_column(String(64))
    via: Mapped[str] = mapped_column(String(10))  # cookie | token | link
    method: Mapped[str] = mapped_column(String(10))
    route: Mapped[str] = mapped_column(String(200))  # with its placeholders
    object: Mapped[str | None] = mapped_column(String(200))
    status: Mapped[int]


class JobRow(Base):
    """Long work that a process of its own does.

    ``state``: queued | running | done | failed. ``parameters`` hold ids of requests, names of models and
    datasets. ``slot``: which worker has it; a worker that died is known by its free lock.
    """

    __tablename__ = "desk_job"
    __table_args__ = (Index("desk_job_state", "state"), Index("desk_job_key", "key_mac", unique=True))
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    parameters: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(10))
    account: Mapped[str] = mapped_column(String(64))
    attempts: Mapped[int] = mapped_column(default=0)
    slot: Mapped[int | None]
    pid: Mapped[int | None]
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    key_mac: Mapped[str | None] = mapped_column(String(64))
    body_mac: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    heartbeat: Mapped[datetime | None]
    finished: Mapped[datetime | None]
