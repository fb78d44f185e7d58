"""Kinds of tokens, the version of a price, and whether an attempt was a hedge."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns. Rows of before know nothing of them, and say so."""
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    flag = sa.Boolean().with_variant(sa.Integer(), "sqlite")
    op.add_column("radgateway_requests", sa.Column("cache_write_tokens", integer))
    op.add_column("radgateway_requests", sa.Column("price_version", sa.Text()))
    op.add_column("radgateway_attempts", sa.Column("hedge", flag))
    for name in ("cached_tokens", "cache_write_tokens", "reasoning_tokens"):
        op.add_column("radgateway_attempts", sa.Column(name, integer))
    op.add_column("radgateway_attempts", sa.Column("price_version", sa.Text()))
