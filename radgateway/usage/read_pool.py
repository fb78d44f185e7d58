"""The connections a ledger is read through: a few, apart from the one that writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.pool import QueuePool


class NoneFree(Exception):
    """All connections are in use, and stayed so for as long as one may wait."""


class ReadPool:
    """At most `size` connections, made by `connect` when they are needed and kept afterwards.

    The one used last is used next, so that the others may be dropped by whoever drops idle ones.
    `alive` says of a connection whether it can still be used; where it can't, another is made.
    SQLAlchemy, which is heavy to import, is needed from the first question on: what only writes
    does without.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        size: int,
        wait_s: float,
        alive: Callable[[Any], bool] = lambda connection: True,
    ) -> None:
        self._connect = connect
        self._size = size
        self._wait_s = wait_s
        self._alive = alive
        self._pool: QueuePool | None = None
        self._making = Lock()

    @property
    def in_use(self) -> int:
        """Connections that somebody reads through."""
        pool = self._pool
        return pool.checkedout() if pool is not None else 0

    @property
    def idle(self) -> int:
        """Connections that wait for the next."""
        pool = self._pool
        return pool.checkedin() if pool is not None else 0

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection for a block; one that fails is not used again. Raises `NoneFree`."""
        from sqlalchemy.exc import TimeoutError as PoolTimeout  # noqa: PLC0415 - heavy

        try:
            held = self._made().connect()
        except PoolTimeout:
            raise NoneFree(
                f"all {self._size} connections for reading are in use, for {self._wait_s:g} s"
            ) from None
        try:
            yield held.dbapi_connection
        except BaseException:
            held.invalidate()
            raise
        finally:
            held.close()

    def close(self) -> None:
        """Close those that nobody uses; the next question makes others."""
        with self._making:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.dispose()

    def _made(self) -> QueuePool:
        from sqlalchemy import event  # noqa: PLC0415 - as above
        from sqlalchemy.exc import DisconnectionError  # noqa: PLC0415
        from sqlalchemy.pool import QueuePool  # noqa: PLC0415

        def check(connection: Any, *_: object) -> None:
            if not self._alive(connection):
                raise DisconnectionError

        with self._making:
            if self._pool is None:
                self._pool = QueuePool(
                    self._connect,
                    pool_size=self._size,
                    max_overflow=0,
                    timeout=self._wait_s,
                    use_lifo=True,
                )
                event.listen(self._pool, "checkout", check)
            return self._pool
