"""`radgateway health`: ask a gateway how it is, and exit by the answer.

It is what a container's health check and a person run: an image without a shell has no curl.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any, Final

import msgspec

_EPILOG = """\
  radgateway health                        is the one on this machine alive
  radgateway health --ready                does it take work: not while starting or draining
  radgateway health --url http://10.0.0.7:8090 --ready --timeout 1

Without --url it asks 127.0.0.1 at the port of RADGATEWAY_SERVER__PORT, else at 8090.
Liveness is for what restarts a gateway, readiness for what sends it work: a gateway that drains is
alive and not ready. What of its dependencies is degraded is shown, and changes neither.

exit codes: 0 yes, 1 no or no answer, 2 wrong arguments
"""
_PORT_VARIABLE: Final = "RADGATEWAY_SERVER__PORT"
_BODY_MAX_BYTES: Final = 64 * 1024
_TIMEOUT_MAX_S: Final = 60.0


class _Degraded(msgspec.Struct):
    dependency: str
    state: str


class _Answer(msgspec.Struct):
    """What is read of the bodies of both routes."""

    status: str
    degraded: tuple[_Degraded, ...] = ()


class _Unwell(Exception):
    """It is not alive or not ready, or does not answer; the message says which."""


def add_to(commands: Any) -> None:
    """Add `health` to the command line's commands."""
    health = commands.add_parser(
        "health",
        help="ask a running gateway whether it is alive or ready",
        description="Ask a running gateway whether it is alive, or whether it takes work.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    health.add_argument("--url", type=_url, help="where it is, with its prefix if it has one")
    health.add_argument("--ready", action="store_true", help="ask whether it takes work")
    health.add_argument(
        "--timeout", type=_seconds, default=3.0, metavar="S", help="seconds to wait (default: 3)"
    )
    health.set_defaults(run=_health)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")) or "@" in text:
        raise argparse.ArgumentTypeError("an http:// or https:// address, without a password")
    return text.rstrip("/")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= _TIMEOUT_MAX_S:
        raise argparse.ArgumentTypeError(f"more than 0 and at most {_TIMEOUT_MAX_S:g} seconds")
    return seconds


def _health(options: argparse.Namespace) -> int:
    url = options.url or f"http://127.0.0.1:{os.environ.get(_PORT_VARIABLE, '8090')}"
    url += "/health/ready" if options.ready else "/health"
    try:
        state = _state(*asyncio.run(_ask(url, options.timeout)))
    except _Unwell as error:
        sys.stderr.write(f"radgateway: {url}: {error}\n")
        return 1
    sys.stdout.write(f"{url}: {state}\n")
    return 0


async def _ask(url: str, timeout_s: float) -> tuple[int, bytes]:
    """The status, and no more of the body than a gateway's is long. Raises `_Unwell`."""
    from radgateway.upstream.connect import connect  # noqa: PLC0415 - only when asked for
    from radgateway.upstream.interface import (  # noqa: PLC0415
        Timeouts,
        UpstreamError,
        UpstreamRequest,
    )

    clocks = Timeouts(connect_s=timeout_s, total_s=timeout_s)
    client = connect()
    try:
        response = await client.send(UpstreamRequest("GET", url, []), clocks)
        try:
            body = b""
            while len(body) < _BODY_MAX_BYTES and (part := await response.read()):
                body += part
        finally:
            await response.aclose()
    except (UpstreamError, ValueError) as error:
        raise _Unwell(str(error) or type(error).__name__) from None
    finally:
        await client.aclose()
    return response.status, body


def _state(status: int, body: bytes) -> str:
    """What it says of itself, in words. Raises `_Unwell` where that is no yes."""
    try:
        said = msgspec.json.decode(body, type=_Answer)
    except msgspec.DecodeError:
        raise _Unwell(f"answers {status}, and not as a radgateway does") from None
    state = ", ".join([said.status, *(f"{it.dependency} {it.state}" for it in said.degraded)])
    if status != 200:
        raise _Unwell(f"{state} ({status})")
    return state
