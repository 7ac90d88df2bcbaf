# SPDX-License-Identifier: Apache-2.0
"""Starts of trainings, which versions saw what was erased, and withdrawn models.

A result that its audit turned down was called interim before; it is superseded.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the column; correct the state of rejected results."""
    op.create_table(
        "weights_start",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("plan_digest", sa.String(64), sa.ForeignKey("plan.digest"), nullable=True),
        sa.Column("model_version_id", sa.Integer, sa.ForeignKey("model_version.id"), nullable=True),
        sa.Column("digest", sa.String(80), nullable=False),
    )
    op.create_index("weights_start_digest", "weights_start", ["digest"])
    op.create_table(
        "model_version_saw",
        sa.Column("model_version_id", sa.Integer, sa.ForeignKey("model_version.id"), primary_key=True),
        sa.Column("request_id", sa.String(64), primary_key=True),
    )
    op.add_column("model_version", sa.Column("withdrawn", sa.String(64), nullable=True))
    op.execute("UPDATE model_version SET state = 'superseded' WHERE state = 'interim' AND guarantee = 'none'")
