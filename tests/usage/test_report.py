"""The table of a usage report reads well, and hides nothing."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from radgateway.usage.query import Sums
from radgateway.usage.report import report
from radgateway.usage.sums_form import total_of


def shown(*sums: Sums, by: tuple[str, ...] = ("model",)) -> list[str]:
    """The lines of a report."""
    text = report("Usage", list(sums), total_of(sums), by)  # type: ignore[arg-type]
    return text.splitlines()


def test_a_report_is_a_table_with_a_total() -> None:
    """Names to the left, figures to the right with their thousands, costs by their points."""
    assert shown(
        Sums(
            group=("gpt-4o-mini",),
            requests=1234,
            good=1231,
            input_tokens=1_234_567,
            output_tokens=45_678,
            cost_usd=Decimal("1.2346"),
        ),
        Sums(
            group=("claude",),
            requests=12,
            good=12,
            input_tokens=12,
            output_tokens=3,
            cost_usd=Decimal("10.5"),
        ),
    ) == [
        "Usage",
        "",
        "MODEL        REQUESTS   ERRORS   INPUT TOKENS   OUTPUT TOKENS      TOKENS   COST USD",
        "------------------------------------------------------------------------------------",
        "gpt-4o-mini     1,234        3      1,234,567          45,678   1,280,245     1.2346",
        "claude             12        0             12               3          15    10.5000",
        "------------------------------------------------------------------------------------",
        "TOTAL           1,246        3      1,234,579          45,681   1,280,260    11.7346",
    ]


def test_what_is_not_known_is_marked_and_counted() -> None:
    """A figure that misses requests is a least one; one that knows none is none."""
    lines = shown(
        Sums(
            group=("a",),
            requests=3,
            good=3,
            input_tokens=30,
            output_tokens=6,
            unknown_usage=1,
            cost_usd=Decimal("0.5"),
            unknown_cost=1,
        ),
        Sums(group=("b",), requests=2, good=2, unknown_usage=2, unknown_cost=2),
    )
    assert lines[4].split() == ["a", "3", "0", "30+", "6+", "36+", "0.5000+"]
    assert lines[5].split() == ["b", "2", "0", "?", "?", "?", "?"]
    assert lines[7].split() == ["TOTAL", "5", "0", "30+", "6+", "36+", "0.5000+"]
    assert lines[-2:] == [
        "",
        "+ at least, ? unknown: the tokens of 3 requests, the cost of 3 requests.",
    ]


def test_costs_are_shown_to_the_last_decimal() -> None:
    """Four at least, and as many in each line as the finest has, so that they add up as shown."""
    lines = shown(
        Sums(group=("a",), requests=1, good=1, cost_usd=Decimal("0.0000126")),
        Sums(group=("b",), requests=1, good=1, cost_usd=Decimal("2")),
    )
    assert [line.split()[-1] for line in (*lines[4:6], lines[7])] == [
        "0.0000126",
        "2.0000000",
        "2.0000126",
    ]


def test_times_and_names_are_shortened_to_what_they_say() -> None:
    """An hour by its hour; nobody by a word; nothing that a terminal would obey."""
    lines = shown(
        Sums(group=("2026-11-25T10:00:00Z", "2026-11-25T00:00:00Z", ""), requests=1),
        Sums(group=("2026-11-25T11:00:00Z", "2026-11-25T00:00:00Z", "\x1b[31m" + "x" * 99)),
        by=("hour", "day", "key"),
    )
    assert lines[4].startswith("2026-11-25 10:00  2026-11-25  (none)")
    assert "\x1b" not in "".join(lines)
    assert "…" in lines[5]
    assert len(max(lines, key=len)) < 160


def test_no_requests_are_said_in_words() -> None:
    """And not in a table of zeros."""
    assert shown() == ["Usage", "", "No requests."]


def test_groups_that_are_not_shown_are_said_to_be_in_the_total() -> None:
    """The columns do not add up then, and the reader should know why."""
    one = Sums(group=("a",), requests=1, good=1)
    text = report("Usage", [one], Sums(requests=1501, good=1501), ("model",))
    assert "The total has 1,500 requests more, of groups that are not shown." in text


@given(
    st.lists(
        st.builds(
            Sums,
            group=st.tuples(st.text()),
            requests=st.integers(1, 10**9),
            input_tokens=st.integers(0, 10**12),
            cost_usd=st.decimals(0, 10**6, places=7),
            unknown_cost=st.integers(0, 2),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_all_lines_are_aligned(several: list[Sums]) -> None:
    """Whatever the figures are, each column of them ends at one place."""
    head, rule, *body = shown(*several)[2 : 2 + 4 + len(several)]
    ends = [head.index(name) + len(name) for name in ("REQUESTS", "ERRORS", "INPUT TOKENS")]
    for line in (*body[:-2], body[-1]):
        for end in ends:
            assert line[end - 1].isdigit() or line[end - 1] == "?"
            assert line[end : end + 1] in ("", " ", "+")
    assert set(rule) == {"-"}
