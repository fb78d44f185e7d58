"""Undoing a compression nobody asked for.

Providers are asked for `identity`, since an answer has to be read in passing. One that compresses
all the same (some CDNs do) is decoded here, piece by piece, so a bomb costs time but no memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_PIECE_MAX = 64 * 1024
_ANY_HEADER = 47
"""zlib's window bits for gzip or zlib, told apart by their header."""

SUPPORTED = frozenset({b"gzip", b"x-gzip", b"deflate"})


class Inflater:
    """Decodes a gzip or deflate body; raises `zlib.error` where it is none."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=_ANY_HEADER)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces of at most 64 KiB."""
        while chunk:
            piece = self._decoder.decompress(chunk, _PIECE_MAX)
            if piece:
                yield piece
            chunk = self._decoder.unconsumed_tail

    @property
    def complete(self) -> bool:
        """Whether the body's own end was reached."""
        return self._decoder.eof
