"""Secrets that are known, whatever they look like: the configured keys and passwords.

A pattern finds what looks like somebody's key; one that an operator made up, `alice-laptop-7`,
looks like a name. So the configured ones are looked for by themselves. What is kept are numbers
that Python's keyed hash makes of them, and no text: a dump of the process tells no key, and a look
takes the same time for one key as for ten thousand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RUN = re.compile(r"[A-Za-z0-9_-]{8,}")
"""What is compared: whole runs of these, which no encoding changes."""


class KnownSecrets:
    """A set of secrets that only grows. Safe to use from several threads."""

    def __init__(self) -> None:
        self._runs: frozenset[int] = frozenset()

    def __len__(self) -> int:
        """How many runs are looked for."""
        return len(self._runs)

    def add(self, secrets: Iterable[str]) -> None:
        """Look for these too.

        A secret is found by its runs of letters, digits, `_` and `-` that have at least 12, or 8
        with a digit among them; a shorter one is more often a word than itself.
        """
        runs = {hash(run) for secret in secrets for run in _RUN.findall(secret) if _telling(run)}
        self._runs = self._runs | runs

    def hide(self, text: str, mark: str) -> str:
        """The text with `mark` in their place."""
        runs = self._runs
        if not runs:
            return text
        return _RUN.sub(lambda found: mark if hash(found[0]) in runs else found[0], text)


def _telling(run: str) -> bool:
    return len(run) >= 12 or any(letter.isdigit() for letter in run)
