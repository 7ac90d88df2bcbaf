# SPDX-License-Identifier: Apache-2.0
"""Alembic's entry: runs the revisions on the connection (and in the transaction) that the engine opened."""

from __future__ import annotations

from alembic import context

from expunge.catalog.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=False,  # the caller holds the one transaction
    render_as_batch=True,
)
context.run_migrations()
