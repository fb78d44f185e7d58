"""The command `radgateway`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from radgateway import __version__
from radgateway.chaos import command as chaos
from radgateway.config import ConfigError, GatewayConfig, effective, load_config
from radgateway.incident import command as incident
from radgateway.openapi import command as openapi
from radgateway.operations import health_command as health
from radgateway.readiness import command as readiness
from radgateway.release import command as release
from radgateway.slo import command as slo
from radgateway.usage import command as usage

_DESCRIPTION = "A gateway for AI model APIs."
_EPILOG = """\
start here:
  radgateway serve                         embedded defaults: a mock provider on 127.0.0.1:8090
  OPENAI_API_KEY=... radgateway serve      the same with a real provider
  radgateway check-config gateway.yaml     every error with its line, or what would be in force
  radgateway serve --config gateway.yaml
  radgateway health --ready                does the one on this machine take work
  radgateway chaos run provider-failure    see what happens when a provider fails
  radgateway slo show                      what is promised, and the alerts that watch it
  radgateway usage report                  what was used, by whom, and what it cost
  radgateway release window                may production be deployed to now?
  radgateway readiness                     what is still open before production
  radgateway incident list --open          what is wrong now, once `incident serve` runs

Every key of the file can be set in the environment: RADGATEWAY_SERVER__PORT=9000.
"""
_SERVE_EPILOG = """\
SIGTERM ends it gently: readiness turns 503, new requests are refused, those in flight finish.
SIGHUP reads the configuration again, whole or not at all; requests in flight keep theirs.
With --workers, each worker holds its own limits and breakers; /metrics shows the sum of all.
"""
_CHECK_EPILOG = """\
Variables and files are read; the store of infisical: references is asked with --resolve only:
  radgateway check-config gateway.yaml             on any machine
  radgateway check-config --resolve gateway.yaml   where the store can be reached
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 2 a configuration that can't be used."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except ConfigError as error:
        print(f"radgateway: {error}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "radgateway", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"radgateway {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="serve the gateway",
        description="Serve the gateway, with embedded defaults where no file is given.",
        epilog=_SERVE_EPILOG,
        formatter_class=raw,
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="a YAML file")
    serve.add_argument("--host", help="address to listen on (default: the configuration's)")
    serve.add_argument("--port", type=_port, help="port to listen on; 0 takes a free one")
    serve.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="processes (default: 1)"
    )
    serve.set_defaults(run=_serve)

    check = commands.add_parser(
        "check-config",
        help="check a configuration and show what would be in force",
        description="Print the effective configuration, secrets masked, or every error.",
        epilog=_CHECK_EPILOG,
        formatter_class=raw,
    )
    check.add_argument("file", type=Path, metavar="FILE", help="a YAML file")
    check.add_argument(
        "--resolve", action="store_true", help="also read the secrets of the secrets store"
    )
    check.set_defaults(run=_check_config)
    health.add_to(commands)
    chaos.add_to(commands)
    slo.add_to(commands)
    openapi.add_to(commands)
    usage.add_to(commands)
    release.add_to(commands)
    readiness.add_to(commands)
    incident.add_to(commands)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


def _workers(text: str) -> int:
    workers = int(text)
    if not 1 <= workers <= 256:
        raise argparse.ArgumentTypeError("workers must be a number from 1 to 256")
    return workers


def _check_config(options: argparse.Namespace) -> int:
    config = load_config(options.file, os.environ, ask_store=options.resolve)
    for notice in _notices(config):
        print(f"note: {notice}", file=sys.stderr)
    print(effective(config), end="")
    return 0


def _notices(config: GatewayConfig) -> list[str]:
    """What whoever starts the gateway should know, its prices included. Raises `ConfigError`."""
    from radgateway.assembly import prices

    return [*config.notices, *prices.notices(config, prices.price_book(config))]


def _serve(options: argparse.Namespace) -> int:
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        print(
            "radgateway: the server is an extra; install it with: pip install 'radgateway[server]'",
            file=sys.stderr,
        )
        return 2
    from radgateway.server import CONFIG_VARIABLE, serve

    source: Path | None = options.config
    if source is None and os.environ.get(CONFIG_VARIABLE):
        source = Path(os.environ[CONFIG_VARIABLE])
    # The options go the way of every other setting, so that each worker reads the same.
    for name in ("host", "port"):
        value = getattr(options, name)
        if value is not None:
            os.environ[f"RADGATEWAY_SERVER__{name.upper()}"] = str(value)
    config = load_config(source, os.environ)
    if options.workers > config.limits.replicas:
        # Each worker must know how many there are: for its share of a limit, and to warn.
        os.environ["RADGATEWAY_LIMITS__REPLICAS"] = str(options.workers)
        limits = replace(config.limits, replicas=options.workers)
        config = replace(config, limits=limits)

    notices = _notices(config)

    def announce(address: str) -> None:
        print(_welcome(config, address, options.workers, notices), flush=True)

    try:
        return serve(config, source, workers=options.workers, announce=announce)
    except OSError as error:
        print(f"radgateway: can't listen: {error.strerror or error}", file=sys.stderr)
        return 1


def _welcome(config: GatewayConfig, address: str, workers: int, notices: list[str]) -> str:
    """What a person wants to know first."""
    processes = "1 worker" if workers == 1 else f"{workers} workers"
    lines = [
        f"radgateway {__version__} ({config.environment}, {processes}) on {address}",
        *_key_lines(config),
        f"Models: {', '.join(config.models) or 'none'}",
        f"Usage: {config.storage.usage}",
    ]
    if config.telemetry.metrics:
        lines.append(f"Metrics: {address}/metrics")
    lines += [f"Note: {notice}" for notice in notices]
    counting = config.limits.replicas
    if counting > 1 and config.storage.limits.scheme == "memory":
        whose = f"{workers} workers" if counting == workers else f"{counting} replicas"
        lines.append(
            f"WARNING: limits are kept in memory, in each of {whose}: "
            f"a caller gets up to {counting} times what is configured."
        )
    model = next((name for name in config.models if "*" not in name), None)
    if model is not None:
        key = config.keys[0].secret if config.keys else None
        shown = key.reveal() if key is not None and key.generated else "$KEY"
        lines += [
            "",
            "Try it:",
            f"  curl {address}/v1/chat/completions \\",
            f'    -H "Authorization: Bearer {shown}" -H "Content-Type: application/json" \\',
            f'    -d \'{{"model": "{model}", "messages": '
            '[{"role": "user", "content": "Hello"}]}\'',
        ]
    return "\n".join(lines)


def _key_lines(config: GatewayConfig) -> list[str]:
    lines = []
    if config.jwt is not None:
        lines.append(f"Tokens: of {config.jwt.issuer} for {config.jwt.audience}")
    elif not config.keys:
        return ["API key: none is needed, the data plane is open"]
    for key in config.keys[:3]:
        if key.secret.generated:
            lines.append(f"API key: {key.secret.reveal()}")
        else:
            origin = key.secret.reference or "the configuration"
            lines.append(f"API key: {key.name}, from {origin}")
    if len(config.keys) > 3:
        lines.append(f"API key: and {len(config.keys) - 3} more")
    return lines
