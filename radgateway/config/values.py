"""What a configured value may be: names, ranges and addresses.

A `ValueError` starts with the name of the field, which is its key.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from radgateway.config.secrets import has_user_info, masked_url

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
MODEL = re.compile(r"[!-~]{1,256}")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}")
DAY_S = 86_400.0


def within(owner: object, names: str, low: float, high: float, *, over: bool = False) -> None:
    """Refuse values outside a range; `over` leaves its lower end out. None is never refused."""
    for name in names.split():
        value = getattr(owner, name)
        if value is None:
            continue
        if not low <= value <= high or (over and value == low):
            least = f"{'over' if over else 'at least'} {low:.0f}"
            raise ValueError(f"{name} must be {least} and at most {high:.0f}, not {value}")


def matches(owner: object, name: str, pattern: re.Pattern[str], what: str) -> None:
    """Refuse text that a pattern does not describe; `what` says in words what would do."""
    value: str = getattr(owner, name)
    if not pattern.fullmatch(value):
        raise ValueError(f"{name} must be {what}")


def http_url(name: str, url: str) -> None:
    """Refuse what is not an absolute http or https URL, or would carry a secret in the open."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not MODEL.fullmatch(url):
        found = f", not {masked_url(url)!r}" if "://" in url else ""
        raise ValueError(f"{name} must be an http:// or https:// URL{found}")
    if has_user_info(url) or parts.query or parts.fragment:
        raise ValueError(f"{name} must not carry a user, a query or a fragment; use headers")


def loopback(host: str) -> bool:
    """Whether a host is this machine, as far as its name or address says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
