# SPDX-License-Identifier: Apache-2.0
"""Requests wait in a queue with a legal clock, and every transition is an event.

Of requests made before, the receipt gives the due date (one calendar month, in UTC), and one event tells the
state in which this revision found them. An ensemble keeps the digest of each of its files from now on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from expunge.catalog.clock import due
from expunge.catalog.tables import Moment, now

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = (
    ("due", sa.DateTime()),
    ("opened_by", sa.String(length=200)),
    ("ground", sa.String(length=40)),
    ("note", sa.Text()),
    ("extension", sa.JSON()),
    ("refusal", sa.JSON()),
    ("recipients", sa.JSON()),
    ("key_mac", sa.String(length=64)),
    ("body_mac", sa.String(length=64)),
)


def upgrade() -> None:
    """Add the columns and the table of events."""
    op.add_column("model_version", sa.Column("parts", sa.JSON(), nullable=True))
    for name, kind in COLUMNS:
        op.add_column("request", sa.Column(name, kind, nullable=True))
    op.create_index("request_key", "request", ["key_mac"], unique=True)
    op.create_index("request_state", "request", ["state", "due"], unique=False)
    op.create_table(
        "request_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=True),
        sa.Column("target", sa.String(length=20), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["request_id"], ["request.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("request_event_request", "request_event", ["request_id"], unique=False)
    _old_requests()


def _old_requests() -> None:
    kinds = {"id": sa.String, "state": sa.String, "received": Moment, "due": Moment}
    request = sa.table("request", *(sa.column(name, kind) for name, kind in kinds.items()))
    event = sa.table(
        "request_event",
        *(sa.column(name, sa.String) for name in ("request_id", "target", "actor", "reason")),
        sa.column("at", Moment),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(request)).all():
        connection.execute(sa.update(request).where(request.c.id == row.id).values(due=due(row.received)))
        told = {"request_id": row.id, "target": row.state, "actor": "expunge", "reason": "migrated"}
        connection.execute(sa.insert(event).values(**told, at=now()))
