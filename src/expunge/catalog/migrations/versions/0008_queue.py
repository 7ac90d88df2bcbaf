# SPDX-License-Identifier: Apache-2.0
"""An index in the order of the queue: what is closed last, else by due date."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index; ``expunge.catalog.tables`` has the same words."""
    order = ["(CASE WHEN state = 'closed' THEN 1 ELSE 0 END)", "COALESCE(due, received)"]
    op.create_index("request_queue", "request", [*map(sa.text, order), "id"])
