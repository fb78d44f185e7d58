"""Reading the secrets of a configuration at once: variables, files, and the store asked once.

Where the store can't be read, the last known secrets stand in: those that the process has, else
those of the sealed file. Otherwise each reference of the store says why it can't be read.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from radgateway.config.problems import Path
from radgateway.config.references import Read, Unreadable, local, references_in, resolve
from radgateway.config.secrets_store import InfisicalConfig
from radgateway.secrets.infisical import InfisicalStore, StoreFailed
from radgateway.secrets.reading import STORE, SecretsUnavailable, StoreReading, folders_of
from radgateway.secrets.sealed_file import SealedFile, SealedFileError, key_of
from radgateway.upstream.connect import connect, trusting
from radgateway.upstream.interface import Upstream

_log = logging.getLogger("radgateway.secrets")
_ENDING_S = 1.0


class SecretsAtStart:
    """Reads the references of one configuration (or of a part of it).

    `settings` are those of the store, None where there is none; `known` is what the process knows
    of it. `reading` is what the store's secrets were taken from, None where none is asked for.
    Blocks for at most the store's `timeout_s`.
    """

    def __init__(
        self,
        config: Any,
        settings: InfisicalConfig | None,
        environ: Mapping[str, str],
        known: StoreReading | None = None,
    ) -> None:
        self._local = local(environ)
        self._settings = settings
        self._fault = ""
        self.reading: StoreReading | None = None
        asked = [each for each in references_in(config).values() if each.startswith(STORE)]
        if not asked:
            return
        if settings is None:
            self._fault = "needs secrets.infisical: url, project_id, environment and an identity"
            return
        try:
            own = own_credentials(settings, self._local)
            self.reading = _newest(own, folders_of(asked, settings.path), known)
        except (SecretsUnavailable, Unreadable) as fault:
            self._fault = str(fault)

    def read(self, reference: str) -> str:
        """The text behind a reference. Raises `Unreadable`."""
        if not reference.startswith(STORE):
            return self._local(reference)
        if self.reading is None or self._settings is None:
            raise Unreadable(f"{reference} can't be read: {self._fault}")
        return self.reading.text(reference, self._settings.path)


def own_credentials(settings: InfisicalConfig, read: Read) -> InfisicalConfig:
    """The settings with the store's own secrets read. Raises `Unreadable`."""
    faults: list[str] = []

    def add(path: Path, fault: str) -> None:
        faults.append(f"secrets.infisical.{path[0]} {fault}")

    resolved = resolve(settings, read, add)
    if faults:
        raise Unreadable("; ".join(faults))
    return resolved


def sealed_file(settings: InfisicalConfig) -> SealedFile | None:
    """The file of these settings, whose secrets are read. Raises `SealedFileError`."""
    if settings.cache_file is None or settings.cache_key is None:
        return None
    return SealedFile(settings.cache_file, key_of(settings.cache_key.reveal()), settings.source)


def store_client(settings: InfisicalConfig) -> Upstream:
    """A client for the store, whose certificate it verifies. Raises `StoreFailed`."""
    try:
        return connect(ssl_context=trusting(settings.ca_file), max_connections=2)
    except OSError as error:
        raise StoreFailed(f"ca_file {settings.ca_file!r} can't be used: {error}") from None


def _newest(
    settings: InfisicalConfig, folders: tuple[str, ...], known: StoreReading | None
) -> StoreReading:
    sealed = sealed_file(settings)
    try:
        reading = _asked(settings, folders)
    except StoreFailed as failure:
        return _last_known(settings, sealed, known, str(failure))
    if sealed is not None:
        try:
            sealed.write(reading)
        except SealedFileError as error:
            _log.warning("radgateway.secrets.unsealed: %s", error)
    return reading


def _last_known(
    settings: InfisicalConfig, sealed: SealedFile | None, known: StoreReading | None, reason: str
) -> StoreReading:
    """What stands in for the store, where it is young enough. Raises `SecretsUnavailable`."""
    if known is None and sealed is None:
        raise SecretsUnavailable(
            f"{reason}. Bring the store back, use env: or file: references, or let the gateway "
            "keep its last known secrets: secrets.infisical.cache_file and cache_key"
        )
    try:
        last = known if known is not None or sealed is None else sealed.read()
    except SealedFileError as error:
        raise SecretsUnavailable(f"{reason}; {error}") from None
    assert last is not None
    age_s = time.time() - last.read_at
    if settings.max_stale_s is not None and age_s > settings.max_stale_s:
        raise SecretsUnavailable(
            f"{reason}; the last known secrets are {age_s:.0f} s old, and max_stale_s is "
            f"{settings.max_stale_s:g}"
        )
    return last.as_stale(reason)


def _asked(settings: InfisicalConfig, folders: tuple[str, ...]) -> StoreReading:
    """Ask from a thread of its own: a loop may run in this one, and waits for us all the same."""
    outcome: list[StoreReading | Exception] = []

    async def ask() -> None:
        try:
            client = store_client(settings)
            try:
                outcome.append(await InfisicalStore(settings, client).read(folders))
            finally:
                await client.aclose()
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(
        target=lambda: asyncio.run(ask()), name="radgateway-secrets", daemon=True
    )
    thread.start()
    # The end of a loop waits for its look-ups of names, which nothing can cut short.
    thread.join(settings.timeout_s + _ENDING_S)
    if not outcome:
        raise StoreFailed(f"{settings.url} did not answer within {settings.timeout_s:g} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]
