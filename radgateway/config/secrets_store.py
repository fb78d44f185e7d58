"""The section `secrets`: how often secrets are looked at again, and the store they may be in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from radgateway.config.secrets import Secret
from radgateway.config.values import DAY_S, http_url, loopback, matches, within

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PATH = re.compile(r"/([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfisicalConfig:
    """A project of an Infisical server, read by a machine identity of its universal auth.

    Its own credentials are `env:` or `file:` references.
    """

    project_id: str
    """Of the project's settings; not its name."""
    environment: str
    """The slug of the store's environment, such as `prod`."""
    url: str = "https://app.infisical.com"
    """The server, without `/api`; https, or http on this machine."""
    path: str = "/"
    """The folder of `infisical:NAME`; `infisical:/folder/NAME` is in another."""
    client_id: Secret | None = None
    client_secret: Secret | None = None
    token: Secret | None = None
    """A token instead of a client id and secret; one that expires can't be renewed."""
    timeout_s: float = 10.0
    """Seconds that one reading may take in all, login included, over 0."""
    ca_file: str | None = None
    """A PEM file of authorities to trust instead of the system's."""
    max_stale_s: float | None = DAY_S
    """Seconds that the last known secrets serve while the store can't be read; null for ever. A key
    that was revoked meanwhile works as long."""
    cache_file: str | None = None
    """Where the last known secrets stand encrypted, for a start without the store."""
    cache_key: Secret | None = None
    """What they are encrypted with: 32 bytes in base64, as of `openssl rand -base64 32`."""

    def __post_init__(self) -> None:
        http_url("url", self.url)
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not loopback(parts.hostname or ""):
            # Every key of the gateway comes this way, and the one to all of them goes it.
            raise ValueError("url must be https://; http:// is for this machine only")
        matches(self, "project_id", _ID, "the id of a project: letters, digits, - and _")
        matches(self, "environment", _ID, "the slug of an environment: letters, digits, - and _")
        matches(self, "path", _PATH, "the path of a folder, such as / or /rad-gateway")
        within(self, "timeout_s", 0, 120, over=True)
        within(self, "max_stale_s", 1, 365 * DAY_S)

    @property
    def source(self) -> str:
        """What secrets of this store belong to: no other's are taken for them."""
        return f"{self.url.rstrip('/')} {self.project_id} {self.environment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsConfig:
    """How changed secrets come into force in a running gateway."""

    refresh_s: float = 60.0
    """Seconds between two readings of the store, 1 to a day; spread by a tenth."""
    file_poll_s: float = 5.0
    """Seconds between two looks at the files of `file:` references, 0.1 to an hour."""
    infisical: InfisicalConfig | None = None
    """The store of `infisical:` references."""

    def __post_init__(self) -> None:
        within(self, "refresh_s", 1, DAY_S)
        within(self, "file_poll_s", 0.1, 3600)
