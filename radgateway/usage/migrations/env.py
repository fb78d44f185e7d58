"""Alembic's way in: runs the steps on the connection, and in the transaction, it is given."""

from __future__ import annotations

from alembic import context

from radgateway.usage.migrations import VERSION_TABLE
from radgateway.usage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
context.run_migrations()
