from __future__ import annotations

import pytest

from radgateway.routing.models import Candidate, ModelTable, Route

A, B, C = (Route((Candidate(name),)) for name in "abc")


@pytest.mark.parametrize(
    ("asked", "provider"),
    [
        ("gpt-4o", "a"),
        ("gpt-4o-mini", "b"),
        ("gpt-3", "c"),
        ("alias", "a"),
        ("claude", None),
        ("", None),
        ("xgpt-3", None),
    ],
)
def test_the_most_literal_name_wins(asked: str, provider: str | None) -> None:
    """Exact before wildcard, the longer wildcard before the shorter, and no match is no match."""
    exact = Route((Candidate("a"),), aliases=("alias",))
    table = ModelTable({"gpt-*": C, "gpt-4o-*": B, "gpt-4o": exact})
    route = table.find(asked)
    assert (route.candidates[0].provider if route else None) == provider
    assert table.find(asked) == route


def test_a_wildcards_candidate_gets_the_name_asked_for() -> None:
    """`*` as the candidate's model means the caller's own word; a named one stays."""
    table = ModelTable({"*": Route((Candidate("a"), Candidate("b", "fixed")))})
    route = table.find("anything")
    assert route is not None
    assert [c.model for c in route.candidates] == ["anything", "fixed"]


def test_look_ups_of_callers_names_are_bounded() -> None:
    """Callers choose the names, so remembering them has a limit."""
    table = ModelTable({"*": A})
    for number in range(5000):
        assert table.find(f"m{number}") is not None
    assert len(table._resolved) <= 1024


@pytest.mark.parametrize(
    "make",
    [
        lambda: Candidate("a", weight=0),
        lambda: Candidate("a", weight=float("nan")),
        lambda: Route(()),
        lambda: Route((Candidate("a"),), strategy="fastest"),  # type: ignore[arg-type]
        lambda: ModelTable({"x": A, "y": Route((Candidate("b"),), aliases=("x",))}),
    ],
)
def test_nonsense_is_refused_at_once(make: object) -> None:
    """A table that could never serve fails when it is built, not at the first request."""
    with pytest.raises(ValueError, match=r"."):
        make()  # type: ignore[operator]


def test_a_models_entry_is_found_by_all_its_names() -> None:
    """What is configured for a model holds for whatever a caller calls it."""
    table = ModelTable(
        {
            "gpt": Route((Candidate("a"),), aliases=("g", "gpt-old-*")),
            "gpt-*": Route((Candidate("a"),)),
        }
    )
    entries = {name: table.entry_of(name) for name in ("gpt", "g", "gpt-old-1", "gpt-new", "x")}
    assert entries == {
        "gpt": "gpt",
        "g": "gpt",
        "gpt-old-1": "gpt",
        "gpt-new": "gpt-*",
        "x": None,
    }
