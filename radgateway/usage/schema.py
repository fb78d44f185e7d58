"""Which schema a database has, and how it gets the one in force.

Ledgers ask for its version in plain SQL, which costs nothing; SQLAlchemy and Alembic, which cost
some 20 MB and a fifth of a second, are imported where there is a step to take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final

from radgateway.usage import migrations
from radgateway.usage.migrations import HEAD, REVISIONS, VERSION_TABLE

READ_VERSION: Final = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a name of our own


class SchemaTooNew(Exception):
    """A newer gateway has changed the database in ways that this one does not know."""


def require_libraries() -> None:
    """Raise `ImportError` where what reads and migrates a database is not installed."""
    if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
        raise ImportError(
            'a ledger in a database needs SQLAlchemy and Alembic: pip install "radgateway[ledger]"'
        )


def is_current(version: str | None) -> bool:
    """Whether a database of a version, or of none, needs no step. Raises `SchemaTooNew`."""
    if version is not None and version not in REVISIONS:
        raise SchemaTooNew(
            f"its schema is {version}, and this version of radgateway knows none after {HEAD}; "
            "use the newer radgateway that has changed it"
        )
    return version == HEAD


class UpToDate:
    """Sees to it that a database has the schema in force: at its first use, and when in doubt.

    `version` reads what it has, `migrate` takes the steps. Any thread may ask; one does it.
    """

    def __init__(self, version: Callable[[], str | None], migrate: Callable[[], None]) -> None:
        self._version = version
        self._migrate = migrate
        self._lock = Lock()
        self._is_so = False
        self._was_so = False

    def ensure(self) -> None:
        """Raises `SchemaTooNew`, and what the two functions raise."""
        with self._lock:
            if self._is_so:
                return
            version = self._version()
            try:
                current = is_current(version)
            except SchemaTooNew:
                # Newer processes have taken over while this one was at work. They only ever add.
                if not self._was_so:
                    raise
                current = True
            if not current:
                self._migrate()
            self._is_so = self._was_so = True

    def doubt(self) -> None:
        """Something has failed: look again before the next use."""
        self._is_so = False


def bring_up_to_date(dialect: str, connect: Callable[[], Any], locking: Sequence[str]) -> None:
    """Take the steps that a database lacks, in one transaction.

    `locking` are the statements that begin it and keep others out until its end: whoever comes
    second finds nothing left to do. Raises what the driver raises.
    """
    import sqlalchemy as sa  # noqa: PLC0415 - heavy, and nearly never needed
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = sa.create_engine(f"{dialect}://", creator=connect, poolclass=sa.NullPool)
    try:
        # Alembic's steps find their connection through a global.
        with _one_at_a_time, engine.begin() as connection:
            for statement in locking:
                connection.exec_driver_sql(statement)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sa.exc.DBAPIError as error:
        # Without the statement and its values, which SQLAlchemy puts into its own message.
        raise (error.orig or error) from None


_one_at_a_time = Lock()
