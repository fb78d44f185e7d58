"""Running the reference app: sockets, worker processes, and an end without a lost request.

`build` makes one worker's app from the environment, for any server that takes a factory; `serve`
binds the address, says how to use what is served, and runs uvicorn, in this process or in several.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from radgateway.config import ConfigError, GatewayConfig, load_config
from radgateway.config.load import reader
from radgateway.gateway import Gateway
from radgateway.reload.refusals import NeedsRestart, ReloadFailed
from radgateway.reload.signal import NUMBER as RELOAD_SIGNAL
from radgateway.reload.signal import ReloadSignal, Terminal, hold_back, pending, tell
from radgateway.stop_signals import StopSignals
from radgateway.telemetry.multiprocess import VARIABLE, share_metrics

if TYPE_CHECKING:
    from uvicorn.supervisors import Multiprocess

CONFIG_VARIABLE = "RADGATEWAY_CONFIG"
_KEY_VARIABLE = "RAD_KEY"
_BACKLOG = 2048
_KEEP_ALIVE_S = 75
"""nginx's default: a little longer than most balancers keep theirs, so they close first."""
_PARENT_VARIABLE = "_RADGATEWAY_PARENT"
"""Whose worker a process is, so that none takes another server's parent for ours."""
_RELOADS_WAITING_MAX = 2
_SAME_SIGNAL_S = 2.0
"""Seconds in which signals are one: a terminal and systemd tell all processes of a group, and the
parent of workers tells them once more."""


def build() -> Gateway:
    """One worker's gateway, from the file RADGATEWAY_CONFIG names and the environment.

    Logs, drains and collects garbage as `radgateway serve` does: it is what `serve` runs, and the
    factory to give to another server, such as `granian --factory radgateway.server:build`.
    """
    # Imported here, after the workers' metrics directory is set: prometheus_client looks once.
    from radgateway.app import create_gateway  # noqa: PLC0415
    from radgateway.assembly.log_lines import RequestLines, configured_logging  # noqa: PLC0415
    from radgateway.assembly.parts import make_instruments  # noqa: PLC0415

    def stop() -> None:
        gateway.drain.start()  # some parents stop their workers without a signal
        stop_process()

    source = os.environ.get(CONFIG_VARIABLE) or None
    config = load_config(source, os.environ)
    instruments = make_instruments(config)
    logs = configured_logging(config, instruments)
    lines = RequestLines(config, logs)
    gateway = create_gateway(
        config,
        instruments=instruments,
        on_end=lines,
        on_start=[lambda: drain_on_signals(gateway), lambda: reload_on_signal(gateway)],
        stop=stop,
        read=reader(source, config),
        on_reload=lines.configure,
        tell_all=reload_all_workers if _is_worker_of_ours() else None,
    )
    gateway.closers.append(logs.aclose)
    _tune_interpreter()
    return gateway


def _tune_interpreter() -> None:
    """Leave the interpreter to requests: what is collected, and how soon a thread gives way.

    A request leaves few cycles, while each full pass walks all modules and metrics. And the threads
    that write rows and export spans keep a request waiting for up to 5 ms with Python's default:
    with 1 ms the slowest hundredth at one connection was measured at 3.8 in place of 5.8 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    sys.setswitchinterval(0.001)


def drain_on_signals(gateway: Gateway) -> None:
    """Finish what is in flight before the server hears of SIGTERM or SIGINT.

    A server stops accepting at once and takes its streams down with it; here readiness turns 503,
    new work is refused, and only then the server hears of the signal. A second one ends what is
    in flight, with its last words; a third skips those too.
    """
    loop = asyncio.get_running_loop()
    drain = gateway.drain
    heard_at: list[float] = []
    waiting: list[asyncio.Task[None]] = []

    async def finish(number: int) -> None:
        await drain.finish()
        signals.pass_on(number)

    def heard(number: int) -> None:
        now = loop.time()
        if heard_at and now - heard_at[-1] < _SAME_SIGNAL_S:
            return
        heard_at.append(now)
        if len(heard_at) == 1:
            waiting.append(loop.create_task(finish(number)))
        elif len(heard_at) == 2:
            drain.hurry()
        else:
            signals.pass_on(number)

    async def give_back() -> None:
        signals.give_back()

    signals = StopSignals(heard)
    if signals.take():
        gateway.closers.append(give_back)


def reload_on_signal(gateway: Gateway) -> None:
    """Read the configuration again on SIGHUP; how that went is in the log and in the metrics."""
    loop, terminal = asyncio.get_running_loop(), Terminal()
    waiting: set[asyncio.Task[object]] = set()

    async def reload() -> None:
        assert gateway.reloader is not None
        with contextlib.suppress(ConfigError, NeedsRestart, ReloadFailed):  # said by the audit
            await gateway.reloader.reload("signal")

    def heard() -> None:
        if terminal.closed():
            stop_process()
            return
        # One that waits for the running one reads the newest file; more of them add nothing.
        if len(waiting) < _RELOADS_WAITING_MAX:
            task = loop.create_task(reload())
            waiting.add(task)
            task.add_done_callback(waiting.discard)

    async def give_back() -> None:
        signals.give_back()

    signals = ReloadSignal(heard)
    if signals.take():
        gateway.closers.insert(0, give_back)


def _is_worker_of_ours() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and os.environ.get(_PARENT_VARIABLE) == str(parent.pid)


def reload_all_workers() -> None:
    """Ask the parent of this worker to have all of them reload."""
    os.kill(os.getppid(), RELOAD_SIGNAL)


def stop_process() -> None:
    """Ask whoever runs this process to stop it, and its siblings where it has some: SIGTERM."""
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent is not None else None
    os.kill(pid if pid is not None else os.getpid(), signal.SIGTERM)


def serve(
    config: GatewayConfig,
    source: Path | None,
    *,
    workers: int,
    announce: Callable[[str], None],
) -> int:
    """Serve until a signal ends it; returns the exit code. `announce` gets the address, bound."""
    import uvicorn  # noqa: PLC0415 - an extra
    from uvicorn.supervisors import Multiprocess  # noqa: PLC0415

    from radgateway.one_write import OneWriteProtocol  # noqa: PLC0415

    hold_back()
    with ExitStack() as stack:
        _prepare_environment(config, source, workers, stack)
        settings = uvicorn.Config(
            "radgateway.server:build",
            factory=True,
            http=OneWriteProtocol,
            host=config.server.host,
            port=config.server.port,
            workers=workers,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            # The drain has waited already; what is still there now has had its time.
            timeout_graceful_shutdown=1,
            lifespan="on",
        )
        bound = bind(config.server.host, config.server.port)
        stack.callback(bound.close)
        announce(address_of(bound))
        # uvicorn raises the signal again when it has shut down; by then it is no news.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        with contextlib.suppress(KeyboardInterrupt):
            if workers > 1:
                os.environ[_PARENT_VARIABLE] = str(os.getpid())
                _supervise(Multiprocess(settings, sockets=[bound]))
                return 0
            server = uvicorn.Server(settings)
            server.run(sockets=[bound])
            return 0 if server.started else 3
        return 0


def _supervise(workers: Multiprocess) -> None:
    """Run the workers; SIGHUP is theirs, where uvicorn would replace them one by one."""
    others, terminal = workers.handle_signals, Terminal()

    def handle_signals() -> None:
        if pending():
            if terminal.closed():
                stop_process()
            else:
                tell(process.pid for process in workers.processes)
        others()

    workers.handle_signals = handle_signals  # type: ignore[method-assign]
    workers.run()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket that worker processes inherit. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    bound.set_inheritable(True)
    return bound


def _prepare_environment(
    config: GatewayConfig, source: Path | None, workers: int, stack: ExitStack
) -> None:
    """What the workers, which may be other processes, build themselves from."""
    if source is not None:
        os.environ[CONFIG_VARIABLE] = str(source.resolve())
    for key in config.keys:
        if key.secret.generated:
            os.environ[_KEY_VARIABLE] = key.secret.reveal()
    if workers > 1:
        # Each worker counts for itself, in files here; a scrape of any of them gets the sum.
        ours = VARIABLE not in os.environ
        directory = share_metrics()
        if ours:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)


def address_of(bound: socket.socket) -> str:
    """The URL of what a socket serves, as one would open it on this machine."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what is shown, not what is bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
