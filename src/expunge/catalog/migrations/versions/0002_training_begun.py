# SPDX-License-Identifier: Apache-2.0
"""A model knows which training of it began last, so that an erasure reaches checkpoints never published.

Of a training that began before this revision nothing is known; the next ``train`` of its name cleans up.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add three columns; in plain SQL, since SQLite takes a foreign key only within the column."""
    op.execute("ALTER TABLE model ADD COLUMN dataset_id INTEGER REFERENCES dataset (id)")
    op.execute("ALTER TABLE model ADD COLUMN dataset_version INTEGER")
    op.execute("ALTER TABLE model ADD COLUMN plan_digest VARCHAR(64) REFERENCES plan (digest)")
