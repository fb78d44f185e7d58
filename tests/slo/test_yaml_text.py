"""YAML that is written without PyYAML and read by it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from radgateway.slo.promql import edge, number, percent, seconds
from radgateway.slo.yaml_text import to_yaml

texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
    | st.just("\n"),
    max_size=30,
) | st.sampled_from(["no", "on", "~", "1e3", "0x1", "5m", "1:30", "- a", "a: b", "#", "{{ .x }}"])
values = st.recursive(
    st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=5))
def test_what_is_written_is_what_is_read(value: dict[str, Any]) -> None:
    """No text turns into a number, a truth or a structure on the way."""
    assert (yaml.safe_load(to_yaml(value)) or {}) == value


def test_it_reads_as_a_person_would_write_it() -> None:
    """Keys in order, plain words unquoted, several lines as they are."""
    shown = to_yaml(
        {
            "for": "5m",
            "expr": "a > 1\nand on (job)\nb",
            "labels": {"severity": "critical", "on": "yes", "share": "2 %"},
            "list": [{"a": 1, "b": True}, [], {}, "c"],
        }
    )
    assert shown == (
        "for: 5m\nexpr: |-\n  a > 1\n  and on (job)\n  b\n"
        'labels:\n  severity: critical\n  "on": "yes"\n'
        '  share: "2 %"\nlist:\n  - a: 1\n    b: true\n  - []\n  - {}\n  - c\n'
    )


def test_numbers_and_windows_as_promql_writes_them() -> None:
    """No exponents, no endless fractions, and a bucket's edge as the client library writes it."""
    assert number(Decimal("0.00500")) == "0.005"
    assert number(Decimal(2) / 3) == "0.666666666667"
    assert number(Decimal("1E+3")) == "1000"
    assert percent(Decimal("0.3")) == "30 %"
    assert [edge(Decimal(text)) for text in ("1", "0.005", "80")] == ["1.0", "0.005", "80.0"]
    assert [seconds(window) for window in ("2m", "14h", "30d")] == [120, 50_400, 2_592_000]
    with pytest.raises(ValueError, match="'5 m' is not a number with one of the units"):
        seconds("5 m")
