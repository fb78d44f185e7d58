"""Secrets that can't be printed by accident, and the references they are read from.

A configuration names where a secret is (`env:NAME`, `file:PATH`, `infisical:NAME`), so the file
itself can be shown and shared. What was read is held by a `Secret`, whose text nothing but
`reveal` gives out: not `repr`, `str`, a format, a log line, or the effective configuration.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from radgateway.config.problems import Path

MASK = "***"
REFERENCE = re.compile(r"(env|file|infisical):(.*)", re.DOTALL)


class Secret:
    """A secret's text, or the reference it will be read from; prints as `***`."""

    __slots__ = ("_value", "generated", "reference")

    def __init__(
        self, value: str | None = None, *, reference: str | None = None, generated: bool = False
    ) -> None:
        if value is None and reference is None:
            raise ValueError("a secret needs a value or a reference")
        self._value = value
        self.reference = reference
        """`env:NAME`, `file:PATH` or `infisical:NAME`; None where the text itself was given."""
        self.generated = generated
        """Made up for this start, and so to be told to the person who started it."""

    @classmethod
    def of(cls, text: str) -> Secret:
        """A reference where the text is one, else the text itself as the secret."""
        return cls(reference=text) if REFERENCE.fullmatch(text) else cls(text)

    @property
    def resolved(self) -> bool:
        """Whether the text is known."""
        return self._value is not None

    def reveal(self) -> str:
        """The text. Raises `RuntimeError` for a reference that was not resolved."""
        if self._value is None:
            raise RuntimeError(f"the secret {self.reference} has not been resolved")
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if self._value is None or other._value is None:
            return self._value is other._value and self.reference == other.reference
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value or self.reference))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Dsn:
    """A storage's address, which may hold a password: prints without user info and query."""

    __slots__ = ("secret",)

    def __init__(self, text: str | Secret) -> None:
        self.secret = Secret.of(text) if isinstance(text, str) else text

    def reveal(self) -> str:
        """The whole address."""
        return self.secret.reveal()

    @property
    def resolved(self) -> bool:
        """Whether the address is known."""
        return self.secret.resolved

    @property
    def scheme(self) -> str:
        """What kind of storage: `sqlite`, `memory` …"""
        return self.reveal().partition(":")[0].lower()

    @property
    def path(self) -> str:
        """The file of `sqlite:///relative.db` or `sqlite:////absolute.db`; empty without one."""
        after = self.reveal().partition("://")[2]
        return after[1:] if after.startswith("/") else ""

    def __repr__(self) -> str:
        if self.secret.reference is not None:
            return self.secret.reference
        return masked_url(self.reveal())

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return self.secret == other.secret if isinstance(other, Dsn) else NotImplemented

    def __hash__(self) -> int:
        return hash((Dsn, self.secret))


def masked_url(text: str) -> str:
    """A URL without what may be secret in it: user info and query."""
    head, at, tail = text.rpartition("@")
    if at:
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", head)
        text = f"{scheme[0] if scheme else ''}{MASK}@{tail}"
    return re.sub(r"([?#]).*", rf"\1{MASK}", text, flags=re.DOTALL)


def has_user_info(url: str) -> bool:
    """Whether a URL carries a user or password."""
    return "@" in urlsplit(url).netloc


def secrets_in(config: Any) -> list[str]:
    """The secret texts of a configuration that was resolved: keys, and the passwords of DSNs."""
    found: list[str] = []

    def note(value: Secret | Dsn, _path: Path) -> Secret | Dsn:
        if isinstance(value, Secret):
            found.append(value.reveal())
        else:
            found.extend(_passwords(value.reveal()))
        return value

    map_secrets(config, (), note)
    return found


def _passwords(dsn: str) -> list[str]:
    # As it stands there and as it is meant; libpq also takes `key=value` pairs.
    passwords = re.findall(r"://[^/@]*:([^@]*)@|\bpassword=(\S+)", dsn)
    raw = [each for pair in passwords for each in pair if each]
    return [*raw, *map(unquote, raw)]


def map_secrets(
    value: Any, path: Path, change: Callable[[Secret | Dsn, Path], Secret | Dsn]
) -> Any:
    """A copy of a configuration in which each secret is what `change` makes of it."""
    if isinstance(value, Secret | Dsn):
        return change(value, path)
    if isinstance(value, Mapping):
        return {key: map_secrets(item, (*path, key), change) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map_secrets(item, (*path, i), change) for i, item in enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        changes: dict[str, Any] = {}
        for field in fields(value):
            if field.metadata.get("derived"):
                continue  # found while loading, and no part of what was configured
            old = getattr(value, field.name)
            new = map_secrets(old, (*path, field.name), change)
            if new is not old:
                changes[field.name] = new
        return replace(value, **changes) if changes else value
    return value
