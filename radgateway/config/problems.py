"""What is wrong with a configuration: every problem at once, each with its place.

A configuration that fails on its first mistake is fixed one start at a time. Everything that reads
one adds to a `Report` and goes on; only at the end is it raised, as one `ConfigError`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

Path = tuple[str | int, ...]
"""Where a value stands: keys, and indices in lists."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_MAX = 60


def dotted(path: Path) -> str:
    """A path as one writes it: `models["gpt-4.1"].candidates[0].weight`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _BARE.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{shown(step)}"]'
    return text


def shown(text: str) -> str:
    """A piece of somebody's file that is safe to print: one line, not long."""
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something known is close to a name, else what there is."""
    known = sorted(known)
    lowered = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {shown(lowered[close[0]])!r}?"
    some = ", ".join(shown(name) for name in known[:20])
    return f"; known: {some}{', …' if len(known) > 20 else ''}" if known else ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, where it is, and what to do about it. Never holds the value of a secret."""

    path: str
    """The key, as `providers.openai.timeouts.idle_s`; empty where it is the file as a whole."""
    line: int | None
    """Line of the file, from 1; None where the value comes from elsewhere."""
    message: str
    source: str = ""
    """The file or environment variable; empty for a mapping or an object."""

    def __str__(self) -> str:
        place = self.source + (f":{self.line}" if self.line is not None else "")
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(ValueError):
    """A configuration that can't be used. `problems` has all of them, in the file's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return ConfigError, (self.problems,)


@dataclass(slots=True)
class Report:
    """Collects problems, and notices: what works but should be known."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    places: dict[Path, tuple[str, int | None]] = field(default_factory=dict)
    """Source and line of each value that was read, for whoever finds fault with it later."""
    spoiled: set[Path] = field(default_factory=set)
    """Sections with a value that was left out: what they lack may be only that."""

    def add(self, path: Path, message: str) -> None:
        """Record a problem with a value, or with one that is missing where its parent stands."""
        source, line = self._place(path)
        self.spoiled.add(path[:-1])
        self.problems.append(Problem(dotted(path), line, message, source))

    def notice(self, message: str) -> None:
        """Record something worth saying once at the start."""
        if message not in self.notices:
            self.notices.append(message)

    def raise_if_any(self) -> None:
        """Raise all problems as one `ConfigError`."""
        if self.problems:
            unique = dict.fromkeys(self.problems)
            raise ConfigError(sorted(unique, key=lambda p: (p.line is None, p.line or 0)))

    def _place(self, path: Path) -> tuple[str, int | None]:
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return "", None
