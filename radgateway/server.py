"""Running the reference app: sockets, worker processes, and an end without a lost request.

`build` makes one worker's app from the environment; `serve` binds the address, says how to use
what is served, and runs uvicorn, in this process or in several.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from radgateway.config import GatewayConfig, load_config
from radgateway.gateway import Gateway
from radgateway.telemetry.multiprocess import VARIABLE, share_metrics

CONFIG_VARIABLE = "RADGATEWAY_CONFIG"
_KEY_VARIABLE = "RAD_KEY"
_BACKLOG = 2048
_KEEP_ALIVE_S = 75
"""nginx's default: a little longer than most balancers keep theirs, so they close first."""


def build() -> Gateway:
    """One worker's gateway, configured as `serve` left it in the environment."""
    # Imported here, after the workers' metrics directory is set: prometheus_client looks once.
    from radgateway import __version__, assembly  # noqa: PLC0415
    from radgateway.app import create_gateway  # noqa: PLC0415
    from radgateway.telemetry.logs import configure_logging  # noqa: PLC0415
    from radgateway.telemetry.request_log import RequestLog  # noqa: PLC0415

    config = load_config(os.environ.get(CONFIG_VARIABLE) or None, os.environ)
    instruments = assembly.instruments(config)
    logs = configure_logging(
        config.telemetry.log_level,
        config.environment,
        __version__,
        on_dropped=instruments.log_lines_dropped.inc,
    )
    gateway = create_gateway(
        config,
        instruments=instruments,
        on_end=RequestLog(logs.writer, logs.format, level=logs.level).emit,
        on_start=[lambda: drain_on_signals(gateway, config)],
    )
    gateway.closers.append(logs.aclose)
    _spare_the_collector()
    return gateway


def _spare_the_collector() -> None:
    """Let the cyclic garbage collector look less often, and not at what never goes away.

    A request leaves few cycles, while each full pass walks all modules and metrics.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def drain_on_signals(gateway: Gateway, config: GatewayConfig) -> None:
    """Finish what is in flight before the server hears of SIGTERM or SIGINT.

    A server stops accepting at once and takes its streams down with it; here readiness turns 503,
    new work is refused, and only then the server's own handler runs. A second signal skips the
    wait.
    """
    loop = asyncio.get_running_loop()
    drain, server = gateway.drain, config.server
    waiting: set[asyncio.Task[None]] = set()

    async def finish(stop: Callable[[], object]) -> None:
        await drain.wait_idle(server.drain_timeout_s, server.stream_drain_timeout_s)
        stop()

    def begin(stop: Callable[[], object]) -> None:
        task = loop.create_task(finish(stop))
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    def chained(forward: Any) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            if drain.draining:
                forward(number, frame)
                return
            drain.begin()
            loop.call_soon_threadsafe(begin, lambda: forward(number, None))

        return handle

    for number in (signal.SIGTERM, signal.SIGINT):
        forward = signal.getsignal(number)
        if callable(forward):
            signal.signal(number, chained(forward))


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
        bound = _bind(config.server.host, config.server.port)
        stack.callback(bound.close)
        announce(_address(bound))
        # uvicorn raises the signal again when it has shut down; by then it is no news.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        with contextlib.suppress(KeyboardInterrupt):
            if workers > 1:
                Multiprocess(settings, sockets=[bound]).run()
                return 0
            server = uvicorn.Server(settings)
            server.run(sockets=[bound])
            return 0 if server.started else 3
        return 0


def _bind(host: str, port: int) -> socket.socket:
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


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what is shown, not what is bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
