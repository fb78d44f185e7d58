"""The conditions of AnalysisTemplates: what they mean, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.release.condition import Condition, NoValue

NAN = math.nan


@pytest.mark.parametrize(
    ("text", "result", "holds"),
    [
        ("result[0] < 0.05", [0.04], True),
        ("result[0] < 0.05", [0.05], False),
        ("result[0] <= 0.05", [0.05], True),
        ("result[0] >= 5e-2", [0.05], True),
        ("result[1] == 2", [1, 2], True),
        ("result[0] != 1", [1], False),
        ("result[0] > -1", [0], True),
        ("result[0] < 0.05", [NAN], False),
        ("result[0] > 0.05", [NAN], False),
        ("result[0] != result[0]", [NAN], True),
        ("len(result) > 0 && result[0] <= 0.05", [], False),
        ("len(result) > 0 && result[0] <= 0.05", [0.01], True),
        ("len(result) == 0 || result[0] <= 0.05", [], True),
        ("len(result) == 0 or isNaN(result[0])", [NAN], True),
        ("not isNaN(result[0]) and result[0] < 1", [NAN], False),
        ("!isNaN(result[0])", [1], True),
        ("isInf(result[0])", [math.inf], True),
        ("!(result[0] > 1)", [0], True),
        ("result[0] < 1 || result[0] > 5 && result[0] < 6", [0.5], True),
        ("(result[0] < 1 || result[0] > 5) && result[0] > 6", [0.5], False),
        ("result[0] > 0 && result[0] < 10", [5], True),
    ],
)
def test_a_condition_means_what_it_says(text: str, result: list[float], holds: bool) -> None:
    """With Argo's precedence, and NaN neither over nor under anything."""
    assert Condition(text).holds(result) is holds


def test_a_value_that_is_not_there_is_an_error() -> None:
    """Not a zero, which would be under every limit."""
    with pytest.raises(NoValue, match="no result"):
        Condition("result[0] < 1").holds([])
    with pytest.raises(NoValue, match="no result"):
        Condition("result[2] < 1").holds([0, 0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "result",
        "result[0]",
        "result < 1",
        "result[0] < ",
        "result[x] < 1",
        "result[-1] < 1",
        "result[0.5] < 1",
        "1 < result[0] < 2",
        "!result[0] > 1",
        "result[0] < 1 &&",
        "result[0] < 1 & result[0] > 0",
        "result[0] + 1 < 2",
        "default(result, 0) < 1",
        "all(result, # < 1)",
        "len(result) > 0 ? result[0] < 1 : false",
        "result[0] < 1 # and so on",
        "true",
        "asFloat(result) < 1",
        "(result[0] < 1",
        "result[0] < 1)",
        "__import__('os')",
        "result[0] = 1",
        "(" * 60 + "result[0] < 1" + ")" * 60,
        "result[0] < 1 || " * 80 + "result[0] < 1",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    """Before anything is measured: a condition half understood would promote anything."""
    with pytest.raises(ValueError, match="condition"):
        Condition(text)


@given(st.text(alphabet="result[0] <>=!&|()isNaN.5-len", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    """It is read or refused, and judges or says that there is no value."""
    try:
        condition = Condition(text)
    except ValueError:
        return
    for values in ([], [0.0], [math.nan, 1.0]):
        try:
            assert condition.holds(values) in (True, False)
        except NoValue:
            assert "result[" in text


@given(st.lists(st.floats(), max_size=3), st.floats(0, 1))
def test_a_pair_of_conditions_never_holds_at_once(values: list[float], limit: float) -> None:
    """Those of the shipped templates: success and failure exclude each other, whatever comes."""
    success = Condition(f"len(result) > 0 && result[0] <= {limit:f}").holds(values)
    failure = Condition(f"len(result) > 0 && result[0] > {limit:f}").holds(values)
    assert not (success and failure)
    assert (success or failure) == (bool(values) and not math.isnan(values[0]))
