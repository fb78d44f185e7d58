"""The conditions of an AnalysisTemplate: the part of Argo's expressions that judging numbers needs.

`result` is the list of an instant query's values. There are numbers, `result[0]`, `len(result)`,
`isNaN(..)`, `isInf(..)`, comparisons, `&&`, `||`, `!` (or `and`, `or`, `not`) and parentheses, with
Argo's precedence. Everything else is refused when it is read, before anything is judged by it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

Values = Sequence[float]
_MAX: Final = 1_000
"""Characters of a condition."""
_DEPTH_MAX: Final = 50
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<sign>&&|\|\||[<>=!]=|[<>!()\[\]-]))",
    re.ASCII,
)
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_FUNCTIONS: Final = {"isNaN": math.isnan, "isInf": math.isinf}
_SAME: Final = {"and": "&&", "or": "||", "not": "!"}


class NoValue(Exception):
    """The condition asks for a value that the result does not have; Argo calls that an error."""


class _Part(NamedTuple):
    """A part of an expression, and whether it is a truth or a number."""

    truth: bool
    of: Callable[[Values], Any]


class Condition:
    """One condition. Raises `ValueError` for what it can't be."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._of = _Reader(text).whole().of

    def holds(self, result: Values) -> bool:
        """Whether it is so of these values. Raises `NoValue`."""
        return bool(self._of(result))


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._depth = 0

    def whole(self) -> _Part:
        part = self._truth(self._either())
        if self._tokens:
            raise self._wrong(f"can't be read from {self._tokens[0]!r} on")
        return part

    def _either(self) -> _Part:
        part = self._both()
        while self._take("||"):
            part = _either(self._truth(part), self._truth(self._both()))
        return part

    def _both(self) -> _Part:
        part = self._comparison()
        while self._take("&&"):
            part = _both(self._truth(part), self._truth(self._comparison()))
        return part

    def _comparison(self) -> _Part:
        left = self._unary()
        for sign, compare in _COMPARISONS.items():
            if self._take(sign):
                return _compared(compare, self._number(left), self._number(self._unary()))
        return left

    def _unary(self) -> _Part:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self._wrong("is nested too deep")
        try:
            if self._take("!"):
                return _negated(self._truth(self._unary()))
            if self._take("-"):
                return _minus(self._number(self._unary()))
            if self._take("("):
                part = self._either()
                self._expect(")")
                return part
            return self._single()
        finally:
            self._depth -= 1

    def _single(self) -> _Part:
        word = self._tokens.pop(0) if self._tokens else ""
        if word[:1].isdigit():
            return _constant(float(word))
        if word == "result":
            self._expect("[")
            index = self._tokens.pop(0) if self._tokens else ""
            if not index.isdigit():
                raise self._wrong("needs a whole number between [ and ]")
            self._expect("]")
            return _item(int(index))
        if word == "len":
            for each in ("(", "result", ")"):
                self._expect(each)
            return _Part(False, len)
        if word in _FUNCTIONS:
            self._expect("(")
            part = self._number(self._either())
            self._expect(")")
            return _asked(_FUNCTIONS[word], part)
        what = f"does not know {word!r} here" if word else "ends too early"
        raise self._wrong(f"{what}; known: numbers, result[0], len(result), isNaN, isInf")

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            found = self._tokens[0] if self._tokens else "the end"
            raise self._wrong(f"needs {token!r}, not {found!r}")

    def _truth(self, part: _Part) -> _Part:
        if not part.truth:
            raise self._wrong("needs a comparison, not a number")
        return part

    def _number(self, part: _Part) -> _Part:
        if part.truth:
            raise self._wrong("compares a truth where a number belongs")
        return part

    def _wrong(self, message: str) -> ValueError:
        return ValueError(f"the condition {self._text!r} {message}")


def _tokens(text: str) -> list[str]:
    if len(text) > _MAX:
        raise ValueError(f"a condition has {_MAX} characters at most")
    tokens, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"the condition {text!r} can't be read from {text[at:].strip()!r} on")
        token = found[0].strip()
        tokens.append(_SAME.get(token, token))
        at = found.end()
    return tokens


def _either(left: _Part, right: _Part) -> _Part:
    return _Part(True, lambda values: left.of(values) or right.of(values))


def _both(left: _Part, right: _Part) -> _Part:
    return _Part(True, lambda values: left.of(values) and right.of(values))


def _compared(compare: Callable[[Any, Any], bool], left: _Part, right: _Part) -> _Part:
    return _Part(True, lambda values: compare(left.of(values), right.of(values)))


def _negated(part: _Part) -> _Part:
    return _Part(True, lambda values: not part.of(values))


def _minus(part: _Part) -> _Part:
    return _Part(False, lambda values: -part.of(values))


def _constant(value: float) -> _Part:
    return _Part(False, lambda _: value)


def _asked(question: Callable[[float], bool], part: _Part) -> _Part:
    return _Part(True, lambda values: question(part.of(values)))


def _item(index: int) -> _Part:
    def of(values: Values) -> float:
        if index >= len(values):
            raise NoValue(f"no result[{index}]: the query has {len(values)} values")
        return values[index]

    return _Part(False, of)
