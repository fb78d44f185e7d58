"""The variables of the original gateway, which keep working under a configuration of ours.

They stand above our defaults and below the file. What has no counterpart is answered with a
notice, never in silence: whoever set it believes it does something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from radgateway.config.problems import Report
from radgateway.config.providers import VENDOR_URLS
from radgateway.config.secrets import Dsn, Secret
from radgateway.config.tree import Node, is_null

VENDOR_KEYS: Mapping[str, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
}
"""The variable of each vendor's credential, by kind."""

_ENVIRONMENTS = {
    "dev": "local",
    "development": "local",
    "test": "local",
    "stage": "staging",
    "prod": "production",
}
_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "warning": "warn",
    "error": "error",
    "fatal": "error",
    "critical": "error",
}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h))")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_TLS = (
    "ENABLED",
    "CERT_FILE",
    "KEY_FILE",
    "CA_FILE",
    "CLIENT_AUTH",
    "SKIP_VERIFY",
    "ALLOWED_CN",
    "ALLOWED_OU",
)
_LATER = "is not supported and has no effect"
_UNSUPPORTED: Mapping[str, str] = {
    "RAD_CEDAR_ENABLED": _LATER,
    "RAD_CEDAR_POLICY_PATH": _LATER,
    "RAD_CORS_ORIGINS": f"{_LATER}: put your framework's CORS middleware around the gateway",
    "RAD_CORS_STRICT": _LATER,
    **{
        f"RAD_TLS_{name}": f"{_LATER}: the gateway speaks plain HTTP; end TLS in front of it"
        for name in _TLS
    },
    "JWT_ACCESS_SECRET": f"{_LATER}: name it in the file, as jwt.secret, with issuer and audience",
    "JWT_REFRESH_SECRET": f"{_LATER}: the gateway verifies tokens and issues none",
    "LOG_OUTPUT": f"{_LATER}: logs go to standard output",
    "LOG_SOURCE": _LATER,
    "FORCE_SECURE_COOKIES": f"{_LATER}: the gateway sets no cookies",
}

Settings = dict[str, Node]


def layer(environ: Mapping[str, str], report: Report) -> Node:
    """What the original's variables say, as a tree below the file."""
    root: Settings = {}
    for variable, read in _READERS.items():
        if environ.get(variable):
            read(root, variable, environ, report)
    for variable, reason in _UNSUPPORTED.items():
        if environ.get(variable):
            report.notice(f"{variable} {reason}")
    if environ.get("LOG_FORMAT", "json").lower() not in ("json", ""):
        report.notice(f"LOG_FORMAT {_LATER}: logs are JSON")
    return Node(root)


def give_vendor_keys(root: Node, environ: Mapping[str, str]) -> None:
    """Let providers at a vendor's own address, and no others, use the vendor's variable."""
    for provider in _items(_items(root).get("providers")).values():
        if not isinstance(provider.value, dict) or "api_key" in provider.value:
            continue
        kind = _text(provider.value.get("kind"))
        variable = VENDOR_KEYS.get(kind)
        url = _text(provider.value.get("base_url")).rstrip("/")
        if variable and environ.get(variable) and url in ("", VENDOR_URLS[kind]):
            provider.value["api_key"] = Node(f"env:{variable}", variable)


def keys(environ: Mapping[str, str], report: Report) -> list[Node]:
    """The entries of `RAD_API_KEYS=name:secret,name2:secret2`."""
    entries = []
    for entry in filter(None, map(str.strip, environ.get("RAD_API_KEYS", "").split(","))):
        name, colon, secret = (part.strip() for part in entry.partition(":"))
        if not (name and colon and secret):
            report.notice("RAD_API_KEYS holds an entry that is not name:secret; it is ignored")
            continue
        parts = {"name": Node(name, "RAD_API_KEYS"), "secret": Node(Secret(secret), "RAD_API_KEYS")}
        entries.append(Node(dict(parts), "RAD_API_KEYS"))
    return entries


def environment_of(environ: Mapping[str, str]) -> str:
    """The environment `RAD_ENV` names, in our words; empty where it is not set."""
    name = environ.get("RAD_ENV", "").strip().lower()
    return _ENVIRONMENTS.get(name, name)


def _items(node: Node | None) -> Mapping[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}


def _text(node: Node | None) -> str:
    return str(node.value) if node is not None and not is_null(node) else ""


def _put(root: Settings, path: str, value: str | Dsn, variable: str) -> None:
    section, _, key = path.partition(".")
    parent = root.setdefault(section, Node({}, variable))
    if isinstance(parent.value, dict):
        parent.value[key] = Node(value, variable)


def _listen(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    host, _, port = environ[variable].rpartition(":")
    # Go's `:8090` is every interface.
    _put(root, "server.host", host.strip("[]") or "0.0.0.0", variable)  # noqa: S104
    _put(root, "server.port", port, variable)


def _environment(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    root["environment"] = Node(environment_of(environ), variable)


def _keys(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    entries = keys(environ, report)
    if entries:
        root["keys"] = Node(list(entries), variable)


def _duration(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    text = environ[variable].strip()
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        text = repr(sum(float(number) * _UNIT_S[unit] for number, unit in parts))
    _put(root, "retry_budget.ttl_s", text, variable)


def _database(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    driver = environ.get("RAD_DB_DRIVER", "sqlite").strip().lower() or "sqlite"
    dsn = environ.get("RAD_DB_DSN", "").strip() or "radgateway.db"
    if "://" not in dsn:
        if driver.startswith("postgres"):
            dsn = _postgres_url(dsn)
        elif not driver.startswith("sqlite"):
            dsn = f"{driver}://"
        elif ":memory:" in dsn:
            dsn = "memory://"
        else:
            dsn = "sqlite:///" + dsn.removeprefix("file:").partition("?")[0]
    _put(root, "storage.usage", Dsn(Secret(dsn)), variable)


def _postgres_url(keywords: str) -> str:
    """`host=db password='a b'` as an address; what is no keyword stays, to be refused as one."""
    parts = re.findall(r"(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S*))|(\S+)", keywords)
    pairs = [
        (name, re.sub(r"\\(.)", r"\1", quoted or plain)) if name else (rest, "")
        for name, quoted, plain, rest in parts
    ]
    return "postgresql:///?" + urlencode(pairs, quote_via=quote)


def _redis(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    password = quote(environ.get("RAD_REDIS_PASSWORD", ""), safe="")
    address = f"redis://{f':{password}@' if password else ''}{environ[variable].strip()}"
    dsn = Dsn(Secret(f"{address}/{environ.get('RAD_REDIS_DB', '').strip() or '0'}"))
    _put(root, "storage.limits", dsn, variable)


def _log_level(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    level = _LEVELS.get(environ[variable].strip().lower())
    if level is None:
        # Other programs use this name too; a word of theirs is no reason not to start.
        report.notice(f"{variable} names no level this gateway has ({', '.join(_LEVELS)})")
    else:
        _put(root, "telemetry.log_level", level, variable)


def _infisical(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
    project = environ.get("INFISICAL_WORKSPACE_ID", "").strip()
    if not project:
        # Infisical's own command sets a token for whatever it runs.
        report.notice(f"{variable} has no effect without INFISICAL_WORKSPACE_ID")
        return
    store = {
        "project_id": Node(project, "INFISICAL_WORKSPACE_ID"),
        "environment": Node(
            environ.get("INFISICAL_ENVIRONMENT", "").strip() or "dev", "INFISICAL_ENVIRONMENT"
        ),
        "path": Node("/rad-gateway", "INFISICAL_WORKSPACE_ID"),
        "token": Node("env:INFISICAL_TOKEN", "INFISICAL_TOKEN"),
    }
    url = environ.get("INFISICAL_API_URL", "").strip().rstrip("/").removesuffix("/api")
    if url:
        store["url"] = Node(url, "INFISICAL_API_URL")
    root["secrets"] = Node({"infisical": Node(store, "INFISICAL_TOKEN")}, "INFISICAL_TOKEN")


def _plain(path: str) -> Callable[[Settings, str, Mapping[str, str], Report], None]:
    def read(root: Settings, variable: str, environ: Mapping[str, str], report: Report) -> None:
        _put(root, path, environ[variable].strip(), variable)

    return read


_READERS: Mapping[str, Callable[[Settings, str, Mapping[str, str], Report], None]] = {
    "RAD_ENV": _environment,
    "RAD_LISTEN_ADDR": _listen,
    "RAD_API_KEYS": _keys,
    "RAD_RETRY_BUDGET": _plain("retry_budget.max_attempts"),
    "RAD_RETRY_BUDGET_RATIO": _plain("retry_budget.ratio"),
    "RAD_RETRY_BUDGET_MIN_PER_SEC": _plain("retry_budget.min_per_s"),
    "RAD_RETRY_BUDGET_TTL": _duration,
    "RAD_DB_DRIVER": _database,
    "RAD_DB_DSN": _database,
    "RAD_REDIS_ADDR": _redis,
    "INFISICAL_TOKEN": _infisical,
    "LOG_LEVEL": _log_level,
}
