# SPDX-License-Identifier: Apache-2.0
"""Every folder in which a dataset lies or once lay."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; the present folder of each dataset is the first that is known."""
    op.create_table(
        "dataset_root",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("dataset_id", sa.Integer(), sa.ForeignKey("dataset.id"), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("dataset_id", "path"),
    )
    op.execute("INSERT INTO dataset_root (dataset_id, path, created) SELECT id, root, created FROM dataset")
