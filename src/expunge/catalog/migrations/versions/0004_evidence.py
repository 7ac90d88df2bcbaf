# SPDX-License-Identifier: Apache-2.0
"""Salts of samples, roots of versions, and the opaque leaves of rows that the catalog has forgotten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows that are there already get their salts when a root is first asked for."""
    op.add_column("sample", sa.Column("salt", sa.LargeBinary(), nullable=True))
    op.add_column("version", sa.Column("root", sa.String(length=64), nullable=True))
    op.create_table(
        "opaque_leaf",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("arrived", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("opaque_leaf_request", "opaque_leaf", ["request_id"])
    erased = sa.text("request_id IS NOT NULL")
    op.create_index("sample_request", "sample", ["request_id"], sqlite_where=erased, postgresql_where=erased)
