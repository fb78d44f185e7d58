"""What tests came to, from the JUnit XML that `pytest --junitxml=FILE` writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

from radgateway.config.problems import ConfigError, Problem

Result = Literal["passed", "failed", "skipped"]
MAX_BYTES: Final = 64 * 1024 * 1024
_WORST_FIRST: Final[tuple[Result, ...]] = ("failed", "skipped", "passed")


def load_results(files: Iterable[Path]) -> dict[str, Result]:
    """The result of each test by its id, without parameters; of several the worst counts.

    Raises `ConfigError` for a file that can't be read.
    """
    found: dict[str, Result] = {}
    for file in files:
        for case in _parsed(file).iter("testcase"):
            id_ = _id(case.get("classname", ""), case.get("name", ""))
            both = (_result(case), found.get(id_, "passed"))
            found[id_] = min(both, key=_WORST_FIRST.index)
    return found


def _parsed(file: Path) -> ElementTree.Element:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise _failed(file, f"can't be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise _failed(file, f"is larger than {MAX_BYTES} bytes")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise _failed(file, "declares entities, which pytest never does")
    try:
        return ElementTree.fromstring(data)  # noqa: S314 - without entities it is only elements
    except ElementTree.ParseError as error:
        raise _failed(file, f"is not the XML of pytest --junitxml: {error}") from None


def _failed(file: Path, message: str) -> ConfigError:
    return ConfigError([Problem("", None, message, str(file))])


def _id(classname: str, name: str) -> str:
    return f"{classname.replace('.', '/')}.py::{name.partition('[')[0]}"


def _result(case: ElementTree.Element) -> Result:
    tags = {child.tag for child in case}
    if tags & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in tags else "passed"
