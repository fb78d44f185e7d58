"""A server of others in a test: started, waited for, ended, its log kept for a failure."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
from slo.waiting import LIMIT_S, until


def free_address() -> str:
    """Host and port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def running(command: list[str], folder: Path, ready: str) -> Iterator[None]:
    """The server, from when the URL `ready` answers well."""
    file = folder / f"{Path(command[0]).name}.log"
    with file.open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:

            def answers() -> bool:
                assert process.poll() is None, file.read_text()
                return httpx.get(ready).is_success

            until(answers, f"{ready} answers", every_s=0.05)
            yield
        finally:
            process.terminate()
            process.wait(LIMIT_S)
