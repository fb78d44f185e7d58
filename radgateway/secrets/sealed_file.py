"""SealedFile: the last known secrets on disk, encrypted, so that a start needs no store.

AES-256-GCM (NIST SP 800-38D) under a key that stands elsewhere, with a new nonce for each writing.
The store's address, project and environment are authenticated with it: a file of another place
does not open, nor does one that was changed. An older one of the same place does; it says when it
was read, and so expires. Needs cryptography.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from radgateway.secrets.reading import SecretsUnavailable, StoreReading

KEY_BYTES: Final = 32
FILE_MAX_BYTES: Final = 8 * 1024 * 1024
_MAGIC: Final = b"radgateway sealed secrets 1\n"
_NONCE_BYTES: Final = 12


class SealedFileError(SecretsUnavailable):
    """The file can't be used; the message says why and what to do, and is fit for a log."""


class _Content(msgspec.Struct):
    read_at: float
    values: dict[str, dict[str, str]]


def key_of(text: str) -> bytes:
    """The key that `cache_key` is. Raises `SealedFileError`."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SealedFileError(
            f"cache_key must be {KEY_BYTES} bytes in base64; make one with: openssl rand -base64 32"
        )
    return key


class SealedFile:
    """The secrets of one `source` in one file. `key` has 32 bytes."""

    def __init__(self, path: str, key: bytes, source: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra

        self._path = Path(path)
        self._cipher = AESGCM(key)
        self._bound_to = _MAGIC + source.encode()

    def write(self, reading: StoreReading) -> None:
        """Replace the file whole. Raises `SealedFileError`."""
        values = {folder: dict(known) for folder, known in reading.values.items()}
        content = msgspec.json.encode(_Content(reading.read_at, values))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = _MAGIC + nonce + self._cipher.encrypt(nonce, content, self._bound_to)
        try:
            # Made with mode 0600, beside its place so that renaming it is one step.
            descriptor, name = tempfile.mkstemp(
                prefix=f".{self._path.name}.", dir=self._path.parent
            )
            try:
                with open(descriptor, "wb") as file:
                    file.write(sealed)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self._path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            raise SealedFileError(
                f"{str(self._path)!r} can't be written: {error.strerror}; the gateway needs to "
                "write in its folder"
            ) from None

    def read(self) -> StoreReading:
        """What was written last. Raises `SealedFileError`."""
        name = repr(str(self._path))
        try:
            with open(self._path, "rb") as file:
                sealed = file.read(FILE_MAX_BYTES + 1)
        except OSError as error:
            raise SealedFileError(f"{name} can't be read: {error.strerror}") from None
        begin = len(_MAGIC) + _NONCE_BYTES
        if not sealed.startswith(_MAGIC) or not begin < len(sealed) <= FILE_MAX_BYTES:
            raise SealedFileError(f"{name} is not a file of sealed secrets; delete it")
        return self._opened(sealed[len(_MAGIC) : begin], sealed[begin:], name)

    def _opened(self, nonce: bytes, sealed: bytes, name: str) -> StoreReading:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        try:
            content = msgspec.json.decode(
                self._cipher.decrypt(nonce, sealed, self._bound_to), type=_Content
            )
        except (InvalidTag, msgspec.DecodeError):
            raise SealedFileError(
                f"{name} does not open: it is damaged, was sealed with another cache_key, or is "
                "of another url, project or environment; delete it once the store can be reached"
            ) from None
        return StoreReading(content.values, content.read_at)
