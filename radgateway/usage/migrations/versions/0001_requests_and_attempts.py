"""One row for each request, one for each attempt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables, or take over those of the time before there were steps."""
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table("radgateway_requests"):
        return  # made by a gateway of that time in PostgreSQL, which is of this very form
    if inspector.has_table("requests") and inspector.has_table("attempts"):
        op.rename_table("requests", "radgateway_requests")
        op.rename_table("attempts", "radgateway_attempts")
        return
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    real: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
    flag = sa.Boolean().with_variant(sa.Integer(), "sqlite")
    decimal = sa.Numeric().with_variant(sa.Text(), "sqlite")
    op.create_table(
        "radgateway_requests",
        sa.Column("usage_id", key, primary_key=True),
        sa.Column("started_at", real),
        sa.Column("request_id", sa.Text()),
        sa.Column("trace_id", sa.Text()),
        sa.Column("api_key_name", sa.Text()),
        sa.Column("api_type", sa.Text()),
        sa.Column("route", sa.Text()),
        sa.Column("method", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("selected_model", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("status", integer),
        sa.Column("outcome", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("interrupted", sa.Text()),
        sa.Column("stream", flag),
        sa.Column("duration_ms", real),
        sa.Column("ttft_ms", real),
        sa.Column("queued_ms", real),
        sa.Column("input_tokens", integer),
        sa.Column("output_tokens", integer),
        sa.Column("cached_tokens", integer),
        sa.Column("reasoning_tokens", integer),
        sa.Column("usage_source", sa.Text()),
        sa.Column("cost_usd", decimal),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "radgateway_attempts",
        sa.Column("usage_id", key, primary_key=True),
        sa.Column("request_id", sa.Text()),
        sa.Column("ordinal", sa.Integer(), primary_key=True),
        sa.Column("provider", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("status", integer),
        sa.Column("failure", sa.Text()),
        sa.Column("sent", flag),
        sa.Column("offset_ms", real),
        sa.Column("duration_ms", real),
        sa.Column("first_byte_ms", real),
        sa.Column("waited_ms", real),
        sa.Column("connect_ms", real),
        sa.Column("input_tokens", integer),
        sa.Column("output_tokens", integer),
        sa.Column("usage_source", sa.Text()),
        sa.Column("cost_usd", decimal),
        sqlite_with_rowid=False,
    )
