"""The connections a ledger is read through: a few, apart from the one that writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool


class NoneFree(Exception):
    """All connections are in use, and stayed so for as long as one may wait."""


class ReadPool:
    """At most `size` connections, made by `connect` when they are needed and kept afterwards.

    The one used last is used next, so that the others may be dropped by whoever drops idle ones.
    `alive` says of a connection whether it can still be used; where it can't, another is made.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        size: int,
        wait_s: float,
        alive: Callable[[Any], bool] = lambda connection: True,
    ) -> None:
        self._size = size
        self._wait_s = wait_s
        self._pool = QueuePool(
            connect, pool_size=size, max_overflow=0, timeout=wait_s, use_lifo=True
        )

        def check(connection: Any, *_: object) -> None:
            if not alive(connection):
                raise DisconnectionError

        event.listen(self._pool, "checkout", check)

    @property
    def in_use(self) -> int:
        """Connections that somebody reads through."""
        return self._pool.checkedout()

    @property
    def idle(self) -> int:
        """Connections that wait for the next."""
        return self._pool.checkedin()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection for a block; one that fails is not used again. Raises `NoneFree`."""
        try:
            held = self._pool.connect()
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
        """Close those that nobody uses."""
        self._pool.dispose()
