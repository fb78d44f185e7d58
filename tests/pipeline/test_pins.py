"""Pins: all of a file, for every platform, none lost on the way to the scanner."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops_tools import ROOT
from steps.pins import Pin, read_pins, rounds

LOCK = """\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via matplotlib
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
pyjwt[crypto]==2.13.0 \\
    --hash=sha256:dd
"""


def test_a_pin_is_read_without_its_marker() -> None:
    """With all hashes; comments and extras are no part of it."""
    assert [pin.line for pin in read_pins(LOCK)] == [
        "numpy==2.4.6 --hash=sha256:aa --hash=sha256:bb",
        "numpy==2.5.5 --hash=sha256:cc",
        "pyjwt==2.13.0 --hash=sha256:dd",
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "httpx\n", "httpx==1\n", "-r other.txt\n"])
def test_what_is_not_pinned_is_an_error(text: str) -> None:
    """No version, no hash, another file, nothing at all: there is nothing to be sure of."""
    with pytest.raises(ValueError, match=r"not a pin with a hash|pins nothing"):
        read_pins(text)


@pytest.mark.parametrize(
    "name", ["constraints.txt", ".ci/image-requirements.txt", ".ci/ops-requirements.txt"]
)
def test_our_own_locks_are_read_whole(name: str) -> None:
    """As many as there are lines with a version."""
    text = (ROOT / name).read_text()
    assert len(read_pins(text)) == len(re.findall(r"^[a-z0-9._-]+(\[.*\])?==", text, re.M)) > 40


NAMED = st.builds(
    Pin, st.sampled_from("abc"), st.sampled_from("123"), st.just(("--hash=sha256:aa",))
)


@given(st.lists(NAMED))
def test_rounds_have_every_pin_and_none_twice(pins: list[Pin]) -> None:
    """Each pin is in one of them, and no package is in one of them with two versions."""
    lists = rounds(pins)
    assert {pin for each in lists for pin in each} == set(pins)
    for each in lists:
        assert len({pin.name for pin in each}) == len(each)
