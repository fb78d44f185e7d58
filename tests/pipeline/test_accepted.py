"""Accepted vulnerabilities: each has a reason and an end, and covers nothing but itself."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops_tools import ROOT
from steps.accepted import MAX_DAYS, Accepted, Vulnerability, load_accepted, not_accepted

TODAY = date(2026, 11, 25)
ENTRY = """\
[[accepted]]
id = "CVE-2026-0001"
package = "httpx"
reason = "not reached"
until = 2026-12-24
"""


def load(folder: Path, text: str) -> list[Accepted]:
    file = folder / "accepted.toml"
    file.write_text(text)
    return load_accepted(file, TODAY)


def test_an_entry_is_read(tmp_path: Path) -> None:
    """Id, package, reason, and the last day on which it counts."""
    (entry,) = load(tmp_path, ENTRY)
    assert entry == Accepted("CVE-2026-0001", "httpx", "not reached", date(2026, 12, 24))


@pytest.mark.parametrize(
    ("changed", "to", "says"),
    [
        ("2026-12-24", "2026-11-24", "was accepted until 2026-11-24; mend it now"),
        ("2026-12-24", "2027-11-24", "over 90 days ahead"),
        ("2026-12-24", '"2026-12-24"', "until must be a date"),
        ("2026-12-24", "2026-12-24T00:00:00Z", "until must be a date"),
        ('"not reached"', '"  "', "reason must be a str, and say something"),
        ("reason", "why", "must have id, package, reason, until"),
        ("[[accepted]]", "[[acepted]]", "'acepted' is unknown"),
        ('"httpx"', "httpx", "accepted.toml: "),
    ],
)
def test_a_bad_entry_is_an_error(tmp_path: Path, changed: str, to: str, says: str) -> None:
    """Over, too far ahead, without a reason, misspelt: it says which, and accepts nothing."""
    with pytest.raises(ValueError, match=says):
        load(tmp_path, ENTRY.replace(changed, to))


def test_the_last_day_counts_still(tmp_path: Path) -> None:
    """Accepted until today is accepted today."""
    assert load(tmp_path, ENTRY.replace("2026-12-24", str(TODAY)))
    assert load(tmp_path, ENTRY.replace("2026-12-24", str(TODAY + timedelta(days=MAX_DAYS))))


def test_it_is_that_vulnerability_in_that_package(tmp_path: Path) -> None:
    """By an alias too; not in another package, and no other in the same one."""
    entries = load(tmp_path, ENTRY)
    alias = Vulnerability("HTTPX", "0.28.1", ("GHSA-aaaa", "CVE-2026-0001"))
    elsewhere = alias._replace(package="h11")
    other = alias._replace(ids=("CVE-2026-0002",))
    assert not_accepted([alias, elsewhere, other], entries) == [elsewhere, other]


@given(st.lists(st.sampled_from(["a", "b", "c"])), st.lists(st.sampled_from(["a", "b", "c"])))
def test_nothing_is_accepted_but_what_is_listed(found: list[str], listed: list[str]) -> None:
    """Whatever is found and listed: what is left is exactly what is not listed."""
    vulnerabilities = [Vulnerability("p", "1", (each,)) for each in found]
    entries = [Accepted(each, "p", "why", TODAY) for each in listed]
    left = [each.ids[0] for each in not_accepted(vulnerabilities, entries)]
    assert left == [each for each in found if each not in listed]


def test_our_own_file_is_in_order() -> None:
    """Its entries are read, and none of them is over today."""
    load_accepted(ROOT / ".ci" / "accepted.toml", date.today())


def test_our_own_file_shows_an_entry_that_works(tmp_path: Path) -> None:
    """The example in its comment is one that could be used."""
    lines = (ROOT / ".ci" / "accepted.toml").read_text().split("#\n", 1)[1].splitlines()
    example = "\n".join(line.removeprefix("# ") for line in lines)
    assert load(tmp_path, example)[0].package == "httpx"
