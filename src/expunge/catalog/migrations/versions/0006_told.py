# SPDX-License-Identifier: Apache-2.0
"""Which events the log was told of, and what an audit said of a published version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; the log knows its events by their ids, so old ones may be told again."""
    op.add_column("request_event", sa.Column("told", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "request_event_untold",
        "request_event",
        ["id"],
        sqlite_where=sa.text("NOT told"),
        postgresql_where=sa.text("NOT told"),
    )
    op.add_column("model_version", sa.Column("judged", sa.JSON()))
