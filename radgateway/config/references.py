"""Where secrets are read from: a variable, a file, or what else a `Read` knows.

`env:NAME` can't change while the process runs. `file:PATH` can: Kubernetes and Docker mount
secrets as files and replace them. What can't be read is said in words that are fit for a log.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from radgateway.config.problems import Path
from radgateway.config.secrets import Dsn, Secret, map_secrets

FILE_MAX_BYTES: Final = 64 * 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SENDABLE = re.compile(r"[!-~]([ -~]*[!-~])?")
"""Visible ASCII: what a header can carry (RFC 9110 §5.5) and survives every proxy."""
T = TypeVar("T")


class Unreadable(ValueError):
    """A reference that gives no secret; the message says why, and holds no part of a secret."""


Read = Callable[[str], str]
"""Gives the text behind a reference, or raises `Unreadable`."""


def local(environ: Mapping[str, str]) -> Read:
    """Reads variables and files. A store is not among what it knows."""

    def read(reference: str) -> str:
        kind, _, name = reference.partition(":")
        if kind == "env":
            return _variable(name, environ)
        if kind == "file":
            return _file(name)
        raise Unreadable("can't be in the store here; use env:NAME or file:PATH")

    return read


def references_in(config: Any) -> dict[Path, str]:
    """Every reference of a configuration, read or not, by where it stands."""
    found: dict[Path, str] = {}

    def note(value: Secret | Dsn, path: Path) -> Secret | Dsn:
        reference = secret_of(value).reference
        if reference is not None:
            found[path] = reference
        return value

    map_secrets(config, (), note)
    return found


def resolve(config: T, read: Read, add: Callable[[Path, str], None]) -> T:
    """A copy with every reference read; `add` is told of what can't be, which stays as it is."""

    def resolved(value: Secret | Dsn, path: Path) -> Secret | Dsn:
        secret = secret_of(value)
        try:
            if secret.resolved or secret.reference is None:
                text = _not_empty(secret.reveal(), "")
                fit(value, text)
                return value
            return with_text(value, read(secret.reference))
        except Unreadable as fault:
            add(path, str(fault))
            return value

    made: T = map_secrets(config, (), resolved)
    return made


def secret_of(value: Secret | Dsn) -> Secret:
    """The secret that an address is, or the secret itself."""
    return value.secret if isinstance(value, Dsn) else value


def with_text(value: Secret | Dsn, text: str) -> Secret | Dsn:
    """The same secret, known to be this text. Raises `Unreadable` for one that can't be used."""
    fit(value, text)
    secret = secret_of(value)
    known = Secret(text, reference=secret.reference, generated=secret.generated)
    return Dsn(known) if isinstance(value, Dsn) else known


def fit(value: Secret | Dsn, text: str) -> None:
    """Raise `Unreadable` where a header could not carry what a header is made of."""
    if isinstance(value, Secret) and not _SENDABLE.fullmatch(text):
        raise Unreadable("holds a character that no HTTP header can carry, or a space at an end")


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not _VARIABLE.fullmatch(name):
        # Not repeated: who writes `env:` in front of the secret itself must not find it in a log.
        raise Unreadable("env: must be followed by the name of an environment variable")
    text = environ.get(name)
    if text is None:
        raise Unreadable(f"the environment variable {name} is not set")
    return _not_empty(text, f"the environment variable {name} ")


def _file(path: str) -> str:
    try:
        # A pipe would make the start wait for whoever writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path!r} is not a regular file")
            data = file.read(FILE_MAX_BYTES + 1)
    except Unreadable:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unreadable(f"the file {path!r} can't be read: {reason}") from None
    if len(data) > FILE_MAX_BYTES:
        raise Unreadable(f"the file {path!r} is larger than {FILE_MAX_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"the file {path!r} is not UTF-8 text") from None
    # Editors and `echo` end a file with one newline; a second would be part of the secret.
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    return _not_empty(text, f"the file {path!r} ")


def _not_empty(text: str, what: str) -> str:
    if not text:
        raise Unreadable(f"{what}is empty")
    return text
