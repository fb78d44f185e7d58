"""The ledger's tables for both databases, derived from the lists of columns.

Heavy to import, so it is left to what asks or migrates; the writing of rows does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from radgateway.usage.columns import ATTEMPT_COLUMNS, REQUEST_COLUMNS, Kind
from radgateway.usage.rollup import DIMENSIONS, FIGURES

_TYPES: Final[Mapping[Kind, sa.types.TypeEngine[Any]]] = {
    "text": sa.Text(),
    "integer": sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
    "real": sa.Double().with_variant(sa.REAL(), "sqlite"),
    "flag": sa.Boolean().with_variant(sa.Integer(), "sqlite"),
    # Where there is no exact number it is text, so that no binary fraction comes near it.
    "decimal": sa.Numeric().with_variant(sa.Text(), "sqlite"),
}

METADATA: Final = sa.MetaData()


def _columns(columns: Iterable[tuple[str, Kind]], *, null: bool = True) -> list[sa.Column[Any]]:
    return [
        sa.Column(name, _TYPES[kind], nullable=null, info={"kind": kind}) for name, kind in columns
    ]


def _key(columns: Iterable[tuple[str, Kind]]) -> list[sa.Column[Any]]:
    # Compared byte by byte; a database's own collation may cost ten times that.
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return [
        sa.Column(name, text if kind == "text" else _TYPES[kind], primary_key=True)
        for name, kind in columns
    ]


def _table(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    # In SQLite the table is the index of its key, which is in the order of time.
    return sa.Table(name, METADATA, *columns, sqlite_with_rowid=False)


REQUESTS: Final = _table(
    "radgateway_requests", *_key(REQUEST_COLUMNS[:1]), *_columns(REQUEST_COLUMNS[1:])
)
# With the key in it, so that the rows of a time are found without looking at the table.
sa.Index("radgateway_requests_by_time", REQUESTS.c.started_at, REQUESTS.c.usage_id)
# By the hour first: ids are random, and an index of them alone is written all over. A batch takes
# PostgreSQL half as long again with two such indexes, and a tenth with these. SQLite has none:
# at 2,000 rows a second even these cost 36 us a row of this process's time, most of it in the
# kernel, where all else of a row costs 15. Who looks for an id there reads the rows.
# Of whole seconds, since an expression that PostgreSQL can't work out (it underflows) refuses the
# row. As text, since it knows an expression by its letters.
HOUR: Final = sa.literal_column("(CAST(started_at AS BIGINT) / 3600)", sa.BigInteger())
for _id in (REQUESTS.c.request_id, REQUESTS.c.trace_id):
    sa.Index(f"radgateway_requests_by_{_id.name}", HOUR, _id).ddl_if(dialect="postgresql")

ATTEMPTS: Final = _table(
    "radgateway_attempts",
    *_key(REQUEST_COLUMNS[:1]),
    *_columns([("request_id", "text")]),
    sa.Column("ordinal", sa.Integer(), primary_key=True),
    *_columns(ATTEMPT_COLUMNS),
)
HOURLY: Final = _table("radgateway_hourly", *_key(DIMENSIONS), *_columns(FIGURES, null=False))
DAILY: Final = _table("radgateway_daily", *_key(DIMENSIONS), *_columns(FIGURES, null=False))
