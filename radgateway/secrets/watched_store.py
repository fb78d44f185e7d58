"""WatchedStore: a store that is read again and again, and what it gave last."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable

from radgateway.asgi import Clock
from radgateway.config.secrets_store import InfisicalConfig, SecretsConfig
from radgateway.secrets.at_start import sealed_file, store_client
from radgateway.secrets.infisical import InfisicalStore, StoreFailed
from radgateway.secrets.last_known import LastKnown
from radgateway.secrets.reading import STORE, StoreReading, folders_of
from radgateway.secrets.sealed_file import SealedFileError


class WatchedStore:
    """The store of these settings, of which something is known already. Ends with `aclose`.

    Raises `SecretsUnavailable` for settings that no store can be asked with.
    """

    def __init__(
        self,
        settings: SecretsConfig,
        reading: StoreReading,
        *,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
        rng: random.Random | None = None,
    ) -> None:
        assert settings.infisical is not None
        self._store: InfisicalConfig = settings.infisical
        self._wall = wall
        self._sealed = sealed_file(self._store)
        self._client = store_client(self._store)
        self._asked = InfisicalStore(self._store, self._client, clock=clock, wall=wall)
        self.reading = reading
        self.last = LastKnown(
            refresh_s=settings.refresh_s,
            max_stale_s=self._store.max_stale_s,
            age_s=wall() - reading.read_at,
            stale=bool(reading.stale),
            clock=clock,
            rng=rng,
        )

    def text(self, reference: str) -> str:
        """The text behind a reference, as far as it is known. Raises `Unreadable`."""
        return self.reading.text(reference, self._store.path)

    def adopt(self, reading: StoreReading) -> None:
        """Take note of what somebody else has read."""
        if reading.read_at > self.reading.read_at and not reading.stale:
            self.reading = reading
            self.last.succeeded(self._wall() - reading.read_at)

    async def refresh(self, references: Iterable[str]) -> None:
        """Read again the folders of references. Raises `StoreFailed`, and knows what it knew."""
        folders = folders_of((r for r in references if r.startswith(STORE)), self._store.path)
        try:
            self.reading = await self._asked.read(folders)
        except StoreFailed as failure:
            self.last.failed(failure.retry_after_s)
            self.reading = self.reading.as_stale(str(failure))
            raise
        self.last.succeeded()

    async def seal(self) -> str:
        """Keep on disk what is known, where that is wanted; gives why it could not be."""
        if self._sealed is None:
            return ""
        try:
            await asyncio.to_thread(self._sealed.write, self.reading)
        except SealedFileError as error:
            return str(error)
        return ""

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()
