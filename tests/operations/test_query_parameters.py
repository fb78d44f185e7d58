"""A query is understood whole, or refused with the reason."""

from __future__ import annotations

import pytest
from drive import http_scope

from radgateway.errors import Refusal
from radgateway.operations.query_parameters import (
    FILTERS,
    PARAMETERS,
    TRACES,
    USAGE,
    check_known,
    cursor_of,
    filter_of,
    groups_of,
    parameters_of,
    whole_number,
)
from radgateway.usage.query import UsageFilter

NOW = 1_795_600_800.0


def test_every_filter_is_read() -> None:
    """Each parameter reaches the field of its name; one that is not given stays open."""
    query = {
        "since": "-1h",
        "until": "2026-11-25T10:00:00Z",
        "key": "alice",
        "model": "m",
        "provider": "",
        "outcome": "client_error",
        "request_id": "r1",
        "trace_id": "ab",
    }
    assert set(query) == set(FILTERS)
    assert filter_of(query, NOW) == UsageFilter(
        since=NOW - 3600,
        until=NOW,
        key="alice",
        model="m",
        provider="",
        outcome="client_error",
        request_id="r1",
        trace_id="ab",
    )
    assert filter_of({}, NOW) == UsageFilter()


def test_all_that_is_taken_is_declared() -> None:
    """So that it is documented."""
    assert set(USAGE) | set(TRACES) == set(PARAMETERS)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"since": "yesterday"}, "`since` is no time; write RFC 3339"),
        ({"until": ""}, "`until` is no time"),
        ({"since": "-1h", "until": "-2h"}, "`until` must be later than `since`"),
        ({"outcome": "sucess"}, "did you mean 'success'?"),
        ({"outcome": "SUCCESS"}, "did you mean 'success'?"),
        ({"key": "x" * 257}, "`key` has at most 256 characters"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(query: dict[str, str], words: str) -> None:
    """With the parameter's name, and what to write."""
    with pytest.raises(Refusal) as caught:
        filter_of(query, NOW)
    assert caught.value.code == "invalid_request"
    assert words in caught.value.message


def test_a_name_that_is_not_known_is_refused_with_the_nearest() -> None:
    """A filter that is misspelt and ignored shows what nobody asked for."""
    for name, words in (
        ("sinse", "`sinse` is no parameter of this path; did you mean 'since'?"),
        ("Key", "did you mean 'key'?"),
        ("zzz", "; known: cursor, format, group_by"),
        ("x\n" + "y" * 99, "`x\\nyyy"),
    ):
        with pytest.raises(Refusal) as caught:
            check_known({"limit": "1", name: "x"}, USAGE)
        assert words in caught.value.message
    with pytest.raises(Refusal, match="`a` is no parameter of this path: it takes none"):
        check_known({"a": ""}, ())
    check_known(dict.fromkeys(USAGE, ""), USAGE)


@pytest.mark.parametrize(
    "cursor", ["", "x", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n"]
)
def test_a_cursor_that_no_page_gave_is_refused(cursor: str) -> None:
    """And one that a page may have given is taken."""
    with pytest.raises(Refusal, match="`cursor` must be the `nextCursor` of a page before"):
        cursor_of({"cursor": cursor})
    assert cursor_of({"cursor": "0123456789abcdef" * 2}) == "0123456789abcdef" * 2
    assert cursor_of({}) is None


def test_groups_keep_the_order_they_are_given_in() -> None:
    """One or several; each once, and each a known one."""
    assert groups_of({"group_by": "key,day"}) == ("key", "day")
    assert groups_of({}) == ()
    for text, words in (
        ("", "`group_by` has no ''"),
        ("key,", "`group_by` has no ''"),
        ("modle", "did you mean 'model'?"),
        ("key,day,key", "`group_by` has key twice"),
    ):
        with pytest.raises(Refusal) as caught:
            groups_of({"group_by": text})
        assert words in caught.value.message
    for paging in ("limit", "cursor"):
        with pytest.raises(Refusal, match=f"`{paging}` pages rows"):
            groups_of({"group_by": "key", paging: "1"})


@pytest.mark.parametrize("text", ["0", "-1", "x", "1e3", "9" * 20, "", "1.0", "٣"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    """And a larger one than there may be is taken for the largest."""
    with pytest.raises(Refusal, match="`limit` must be a whole number from 1 to 500"):
        whole_number({"limit": text}, "limit", 50, 500)
    assert whole_number({"limit": "501"}, "limit", 50, 500) == 500
    assert whole_number({}, "limit", 50, 500) == 50


def test_the_query_is_decoded_once_and_says_each_thing_once() -> None:
    """Of two values one would be ignored."""
    scope = http_scope("/", query="key=a%20b&model=%C3%A9&provider=")
    assert parameters_of(scope) == {"key": "a b", "model": "é", "provider": ""}
    with pytest.raises(Refusal, match="`key` is given twice"):
        parameters_of(http_scope("/", query="key=a&model=m&key=a"))
    with pytest.raises(Refusal, match="too long"):
        parameters_of(http_scope("/", query="&".join(f"a{n}=1" for n in range(33))))
    assert parameters_of(http_scope("/")) == {}
