"""Secrets that are known, whatever they look like: the configured keys and passwords.

A pattern finds what looks like somebody's key; one that an operator made up, `alice-laptop-7`,
looks like a name. So the configured ones are looked for by themselves. What is kept are numbers
that Python's keyed hash makes of them, and no text: a dump of the process tells no key, and a look
takes the same time for one key as for ten thousand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BEGIN = 8
_RUN = re.compile(r"[A-Za-z0-9_-]{8,}")
"""What is looked for: runs of these, which no encoding changes."""
_STARTS = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))(?=([A-Za-z0-9_-]{8}))"
)
"""Where one may begin: not inside a word, but after an escape."""


class KnownSecrets:
    """A set of secrets that only grows. Safe to use from several threads."""

    def __init__(self) -> None:
        self._runs: frozenset[int] = frozenset()
        self._lengths: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """How many runs are looked for."""
        return len(self._runs)

    def add(self, secrets: Iterable[str]) -> None:
        """Look for these too.

        A secret is found by its runs of letters, digits, `_` and `-` that have at least 12, or 8
        with a digit among them; a shorter one is more often a word than itself.
        """
        runs = {run for secret in secrets for run in _RUN.findall(secret) if _telling(run)}
        lengths = dict(self._lengths)
        for run in runs:
            begin = hash(run[:_BEGIN])
            known = {len(run), *lengths.get(begin, ())}
            lengths[begin] = tuple(sorted(known, reverse=True))
        self._runs = self._runs | {hash(run) for run in runs}
        self._lengths = lengths

    def hide(self, text: str, mark: str) -> str:
        """The text with `mark` in their place."""
        lengths, runs = self._lengths, self._runs
        if not lengths:
            return text
        parts: list[str] = []
        done = 0
        for start in _STARTS.finditer(text):
            at = start.start()
            for length in lengths.get(hash(start[1]), ()):
                if at >= done and hash(text[at : at + length]) in runs:
                    parts += text[done:at], mark
                    done = at + length
                    break
        return "".join([*parts, text[done:]]) if parts else text


def _telling(run: str) -> bool:
    return len(run) >= 12 or any(letter.isdigit() for letter in run)
