"""`radgateway usage report`: what was used, by whom, and what it cost."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from radgateway.config.references import local, resolve
from radgateway.config.secrets import Secret
from radgateway.errors import Refusal
from radgateway.operations.query_parameters import filter_of, groups_of
from radgateway.usage.configured import config_of_ledger
from radgateway.usage.csv_form import sums_lines
from radgateway.usage.ledger import Ledger, LedgerUnavailable
from radgateway.usage.moment import moment, rfc3339
from radgateway.usage.query import GROUPS, SUMS_MAX
from radgateway.usage.report import report
from radgateway.usage.sums_form import answer_shown, are_all, sums_read, sums_shown, total_of

_EPILOG = f"""\
Sums the usage ledger, and groups the sums by one or several of
{", ".join(GROUPS)}, separated by commas.

  radgateway usage report --config gateway.yaml --since 24h --by key
  radgateway usage report --since 2026-11-01 --until 2026-12-01 --by key,model --format csv
  radgateway usage report --outcome upstream_error --by provider
  radgateway usage report --url https://gateway.internal --admin-key env:RAD_ADMIN_KEY --by day

The ledger is that of the configuration (--config, else RADGATEWAY_CONFIG, else the embedded one),
and read directly; with --url a running gateway is asked, which is the only way to one that keeps
its usage in memory. Keys are references: env:NAME or file:PATH.

Times: 7d (also s, m, h, w) is how long ago; 2026-11-25 is a day in UTC;
2026-11-25T10:00:00Z is RFC 3339; 1795600800 are Unix seconds.

What a request does not know of itself is in no sum: a + says that there are such requests, and a ?
that there are no others. ERRORS are answers of 5xx and such as broke off.

exit codes: 0 reported, 1 the ledger or the gateway does not answer, 2 wrong arguments, a
configuration or key that can't be used, or no ledger there
"""
_FILTERS: Final = {
    "key": ("NAME", "of this key"),
    "model": ("NAME", "of this model, as it was asked for or served"),
    "provider": ("NAME", "served by this provider"),
    "outcome": ("WORD", "that ended so: success, client_error, refused, upstream_error, ..."),
    "request-id": ("ID", "of this request id"),
    "trace-id": ("ID", "of this trace"),
}
_TIMEOUT_S: Final = 60.0


class _Unanswered(Exception):
    """The ledger or the gateway can't tell now; the message says why."""


def add_to(actions: Any) -> None:
    """Add `report` to the commands of `radgateway usage`."""
    report = actions.add_parser(
        "report",
        help="sums of requests, tokens and costs",
        description="Show what was used, by whom, and what it cost.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("--config", type=Path, metavar="FILE", help="whose ledger to read")
    report.add_argument("--url", help="the address of a running gateway to ask instead")
    report.add_argument("--admin-key", metavar="REF", help="an admin's key, with --url")
    report.add_argument("--since", default="7d", metavar="TIME", help="from when (default: 7d)")
    report.add_argument("--until", metavar="TIME", help="until before when (default: now)")
    report.add_argument(
        "--by", default="model", metavar="GROUPS", help="what to group by (default: model)"
    )
    report.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="(default: table)"
    )
    only = report.add_argument_group("only requests")
    for name, (metavar, meaning) in _FILTERS.items():
        only.add_argument(f"--{name}", metavar=metavar, help=meaning)
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    query = _query(options)
    try:
        answer = _read(options, query) if options.url is None else _asked(options, query)
        text = _FORMS[options.format](answer, query)
    except _Unanswered as error:
        return _wrong(str(error), 1)
    except (ValueError, Refusal) as error:
        return _wrong(str(error), 2)
    sys.stdout.write(text)
    return 0


def _query(options: argparse.Namespace) -> dict[str, str]:
    """The options as the management API's query has them: one reading of both."""
    names = ("since", "until", *(name.replace("-", "_") for name in _FILTERS))
    given = {name: getattr(options, name) for name in names}
    query = {name: value for name, value in given.items() if value is not None}
    return {**query, "group_by": options.by}


def _read(options: argparse.Namespace, query: dict[str, str]) -> dict[str, Any]:
    """The sums of the configured ledger. Raises `Refusal`, `ValueError` or `_Unanswered`."""
    if options.admin_key is not None:
        raise ValueError("--admin-key is for a running gateway: give --url")
    wanted, by = filter_of(query, time.time()), groups_of(query)
    ledger = _ledger(options.config)
    try:
        found = ledger.sums(wanted, by)
        total = total_of(found) if len(found) < SUMS_MAX else ledger.sums(wanted)[0]
    except LedgerUnavailable as error:
        raise _Unanswered(f"the usage ledger does not answer: {error}") from None
    finally:
        ledger.close()
    return answer_shown([sums_shown(each, by) for each in found], found, total, by)


def _ledger(file: Path | None) -> Ledger:
    """The ledger of a configuration. Raises `ValueError`."""
    from radgateway.assembly.usage import ledger_of  # noqa: PLC0415

    config = config_of_ledger(file)
    dsn = config.storage.usage
    if dsn.scheme == "memory":
        raise ValueError(
            "this configuration keeps usage in the memory of the gateway: ask that, with --url"
        )
    if dsn.scheme == "sqlite" and not Path(dsn.path).exists():
        # Opening it would make an empty one, and report that nothing was used.
        raise ValueError(f"there is no usage ledger at {dsn.path}")
    return ledger_of(config)


def _asked(options: argparse.Namespace, query: dict[str, str]) -> dict[str, Any]:
    """The sums that a running gateway answers. Raises `ValueError` or `_Unanswered`."""
    import httpx  # noqa: PLC0415 - only when asked for

    if options.config is not None:
        raise ValueError("--config reads a ledger and --url asks a gateway: give one of them")
    if not options.url.startswith(("http://", "https://")):
        raise ValueError("--url must be an http:// or https:// address")
    headers = {"authorization": f"Bearer {_key(options.admin_key, os.environ)}"}
    url = f"{options.url.rstrip('/')}/v0/management/usage"
    try:
        answer = httpx.get(url, params=query, headers=headers, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _Unanswered(
            f"the gateway does not answer: {str(error) or type(error).__name__}"
        ) from None
    return _payload(answer.status_code, answer.content)


def _payload(status: int, body: bytes) -> dict[str, Any]:
    """The sums that an answer holds. Raises `ValueError` or `_Unanswered` where it holds none."""
    try:
        payload: dict[str, Any] = json.loads(body)
        message = payload["error"]["message"] if status != 200 else ""
        if status == 200:
            for each in (*payload["data"], payload["sum"]):
                sums_read(each)
            return payload
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        message = f"it answers {status}, in no form that this version knows"
    if status in (400, 401, 403):
        raise ValueError(f"the gateway refuses: {message}")
    if status == 404:
        message = "it has no management API: its configuration names no admin_keys"
    raise _Unanswered(f"the gateway does not tell: {message}")


def _key(reference: str | None, environ: Mapping[str, str]) -> str:
    """What a reference leads to. A key itself is refused: command lines are seen by all."""
    if reference is None:
        raise ValueError("--url needs --admin-key as well")
    secret = Secret.of(reference)
    if secret.reference is None:
        raise ValueError("--admin-key must be env:NAME or file:PATH, not the key itself")
    faults: list[str] = []
    resolved = resolve(secret, local(environ), lambda path, fault: faults.append(fault))
    if faults:
        raise ValueError(f"--admin-key: {faults[0]}")
    return resolved.reveal()


def _as_table(answer: dict[str, Any], query: dict[str, str]) -> str:
    found = [sums_read(each) for each in answer["data"]]
    return report(_title(query), found, sums_read(answer["sum"]), groups_of(query))


def _as_csv(answer: dict[str, Any], query: dict[str, str]) -> str:
    found = [sums_read(each) for each in answer["data"]]
    if not are_all(found, sums_read(answer["sum"])):
        # Half an export looks whole.
        raise ValueError(
            f"there are more groups than the {SUMS_MAX} that are given: narrow them with --since "
            "and --until, or group by less"
        )
    return sums_lines(found, groups_of(query)).decode()


def _as_json(answer: dict[str, Any], query: dict[str, str]) -> str:
    return json.dumps(answer, indent=2, ensure_ascii=False) + "\n"


_FORMS: Final[dict[str, Callable[[dict[str, Any], dict[str, str]], str]]] = {
    "table": _as_table,
    "csv": _as_csv,
    "json": _as_json,
}


def _title(query: Mapping[str, str]) -> str:
    """What the report is of, with ages as the times they were."""
    now = time.time()
    until = rfc3339(moment(query.get("until", "0s"), now))
    only = [f"{name} {value!r}" for name, value in query.items() if name not in _SHOWN_APART]
    where = f", only {', '.join(only)}" if only else ""
    return f"Usage from {rfc3339(moment(query['since'], now))} until {until}{where}"


_SHOWN_APART: Final = ("since", "until", "group_by")


def _wrong(message: str, code: int) -> int:
    sys.stderr.write(f"radgateway: {message}\n")
    return code
