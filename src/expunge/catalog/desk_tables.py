# SPDX-License-Identifier: Apache-2.0
"""Tables of the web desk: accounts, sessions, tokens, access log and jobs.

Secrets are stored only as digests, so that nobody can sign in with what the database holds. No table names a
data subject; the accounts belong to staff.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from expunge.catalog.tables import Base, now


class AccountRow(Base):
    """An account of a staff member. ``password``: Argon2 hash, None until a password was chosen."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str | None] = mapped_column(String(200))
    disabled: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)


class SessionRow(Base):
    """A browser session. ``digest``: SHA-256 of the cookie's random value."""

    __tablename__ = "account_session"
    __table_args__ = (Index("account_session_account", "account_id"),)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    seen: Mapped[datetime]


class TokenRow(Base):
    """An API token. ``digest``: SHA-256 of its secret, which is shown only once."""

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
    """A one-time link for choosing a password: for the first admin, or for an account without one."""

    __tablename__ = "account_link"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))  # None: the first admin's
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    used: Mapped[datetime | None]


class AttemptRow(Base):
    """A failed sign-in. ``mac``: keyed digest of the account name, the address, or both; none is stored."""

    __tablename__ = "account_attempt"
    __table_args__ = (Index("account_attempt_mac", "mac", "at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    mac: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]


class TrailRow(Base):
    """An access-log entry: who read or changed what.

    ``object``: a request, model, dataset or job; never a subject or a sample.
    """

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
    """A job that runs in a worker process.

    ``state``: queued | running | done | failed. ``parameters``: ids of requests, names of models and
    datasets. ``slot``: the worker that runs the job; a crashed worker is recognised by its free lock.
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
