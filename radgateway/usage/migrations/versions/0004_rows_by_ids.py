"""Indexes of the rows by their requests' and traces' ids, an hour at a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add them in PostgreSQL; `tables.py` says why there alone."""
    if op.get_bind().dialect.name != "postgresql":
        return
    hour = sa.text("(CAST(started_at AS BIGINT) / 3600)")
    for name in ("request_id", "trace_id"):
        op.create_index(f"radgateway_requests_by_{name}", "radgateway_requests", [hour, name])
