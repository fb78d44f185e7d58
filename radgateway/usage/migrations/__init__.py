"""The steps that made the ledger's schema what it is, oldest first.

A step only ever adds: an older gateway goes on using the database while newer ones take over. So
a released step is never edited, and a new one comes with its name in `REVISIONS`.
"""

from __future__ import annotations

from typing import Final

REVISIONS: Final = ("0001", "0002", "0003", "0004")
"""All steps, in their order."""
HEAD: Final = REVISIONS[-1]
"""The schema that this version reads and writes."""
VERSION_TABLE: Final = "radgateway_schema"
"""Where a database says which it has. A name of our own: a database may be shared with others, and
with others that use Alembic."""
