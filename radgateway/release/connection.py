"""HTTP clients of the servers that are asked: bounded, and with a credential by reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx

from radgateway.config.references import local, resolve
from radgateway.config.secrets import Secret

_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)


def client(
    option: str, url: str, reference: str | None, environ: Mapping[str, str]
) -> httpx.Client:
    """A client of a server. Raises `ValueError`: the option and what is wrong with it.

    `reference` leads to a bearer token: `env:NAME` or `file:PATH`.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{option} must be an http:// or https:// address")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{option} must not carry a password; give a token by reference")
    token = None if reference is None else _token(f"{option}-token", reference, environ)
    # Not packed: the bound on an answer's size is then one on what is received, too.
    headers = {"accept-encoding": "identity"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT)


def _token(option: str, reference: str, environ: Mapping[str, str]) -> str:
    """What a reference leads to. A token itself is refused: command lines are seen by all."""
    secret = Secret.of(reference)
    if secret.reference is None:
        raise ValueError(f"{option} must be env:NAME or file:PATH, not the token itself")
    faults: list[str] = []
    resolved = resolve(secret, local(environ), lambda path, fault: faults.append(fault))
    if faults:
        raise ValueError(f"{option}: {faults[0]}")
    return resolved.reveal()
