from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.dialects import json_splice

KEYS = st.text(st.characters(codec="utf-8"), max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(KEYS | st.just("model"), VALUES, max_size=5)


@given(fields=FIELDS, name=KEYS, new=KEYS, indent=st.sampled_from([None, 1]), ascii_=st.booleans())
def test_only_the_named_value_changes(
    fields: dict[str, object], name: str, new: str, indent: int | None, ascii_: bool
) -> None:
    """Whatever else the object holds, deeper keys of the same name too, only one value differs."""
    fields["model"] = name
    body = json.dumps(fields, indent=indent, ensure_ascii=ascii_).encode()
    old = json_splice.raw_value(body, "model")
    spliced = json_splice.replace(body, "model", old, json.dumps(new).encode())
    assert json.loads(spliced) == {**fields, "model": new}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","n":1.0}', b'{"model":"b","n":1.0}'),
        (b'{ "n" : 1e2 , "model" :\t"a" }', b'{ "n" : 1e2 , "model" :\t"b" }'),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"b"}'),
        (b'{"s":"\\"model\\":\\"a\\"","model":"a"}', b'{"s":"\\"model\\":\\"a\\"","model":"b"}'),
        (b'{"u":"\\u00e9","model":"a"}', b'{"u":"\\u00e9","model":"b"}'),
    ],
)
def test_every_other_byte_stays(body: bytes, expected: bytes) -> None:
    """White space, number forms and escapes of the rest are kept to the letter."""
    assert json_splice.replace(body, "model", b'"a"', b'"b"') == expected


def test_many_deeper_look_alikes_still_give_the_right_result() -> None:
    """More look-alikes than places tried: the top level is rebuilt, the values keep their bytes."""
    deeper = b",".join(b'{"model":"a","n":1.50}' for _ in range(20))
    body = b'{"list":[' + deeper + b'],"model":"a"}'
    spliced = json_splice.replace(body, "model", b'"a"', b'"b"')
    assert json.loads(spliced)["model"] == "b"
    assert spliced.count(b'{"model":"a","n":1.50}') == 20


def test_a_key_written_with_escapes_is_found() -> None:
    """`"mod\\u0065l"` is the key `model` too."""
    body = b'{"mod\\u0065l":"a"}'
    old = json_splice.raw_value(body, "model")
    assert json.loads(json_splice.replace(body, "model", old, b'"b"')) == {"model": "b"}


def test_insert_adds_one_key() -> None:
    """A new key goes in front; nothing else moves."""
    assert json_splice.insert(b' { "a":1 }', "k", b"true") == b' {"k":true, "a":1 }'
