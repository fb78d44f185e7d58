"""What a reload says that has changed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from radgateway.config import load_config
from radgateway.config.changes import MOST, differences


def config(**changes: Any) -> Any:
    return load_config(
        {
            "keys": [{"name": "a", "secret": "secret-a"}, {"name": "b", "secret": "secret-b"}],
            "providers": {"p": {"kind": "openai", "base_url": "http://h", "api_key": "secret-p"}},
            "models": {"m": {"candidates": [{"provider": "p"}]}},
        }
        | changes,
        {},
    )


def test_values_are_shown_with_their_paths() -> None:
    """In the order of the configuration, a section that comes or goes as a whole."""
    models = {"m": {"candidates": [{"provider": "p", "weight": 5}], "strategy": "weighted"}}
    shown = differences(config(), config(models=models, admission=None, keepalive={})).shown()
    assert [change["path"] for change in shown["changes"]] == [
        "models.m.candidates[0].weight",
        "models.m.strategy",
        "admission",
        "keepalive",
    ]
    assert shown["changes"][0] == {"path": "models.m.candidates[0].weight", "old": 100, "new": 5}
    assert shown["changes"][3]["new"] == {"interval_s": 15, "before_content": False}


def test_keys_are_known_by_their_names() -> None:
    """One that moved in its list has not changed; a new one is shown without its secret."""
    one, two = {"name": "b", "secret": "secret-b"}, {"name": "a", "secret": "secret-new"}
    changes = differences(config(), config(keys=[one, two, {"name": "c", "secret": "secret-c"}]))
    first, second = changes.shown()["changes"]
    assert first == {"path": "keys.a.secret", "changed": True}
    assert second["path"] == "keys.c"
    assert "***" in json.dumps(second)
    assert differences(config(), config()).changes == ()


def test_a_long_list_is_cut_and_counted() -> None:
    """The audit's line stays a line."""
    models = {f"m{n}": {"candidates": [{"provider": "p"}]} for n in range(80)}
    shown = differences(config(), config(models=models)).shown()
    assert (len(shown["changes"]), shown["more"]) == (MOST, 81 - MOST)
    assert all(len(json.dumps(change)) < 500 for change in shown["changes"])


secrets = st.text("abcdefghij0123456789-", min_size=12, max_size=20).filter(
    lambda text: text.strip("-") == text
)


@settings(max_examples=60, deadline=None)
@given(st.lists(secrets, min_size=8, max_size=8, unique=True))
def test_no_secret_is_ever_shown(texts: list[str]) -> None:
    """Whatever changes: keys, credentials, headers, a shared secret, a password in an address."""

    def made(key: str, credential: str, header: str, password: str) -> Any:
        return config(
            keys=[{"name": "a", "secret": f"k{key}"}, {"name": f"n-{password[:2]}", "secret": key}],
            admin_keys=[{"name": "ops", "secret": f"o{key}"}],
            providers={
                "p": {
                    "kind": "openai",
                    "base_url": "http://h",
                    "api_key": credential,
                    "headers": {"x-a": header, f"x-{len(header)}": credential},
                }
            },
            jwt={"issuer": "i", "audience": "x", "secret": key * 3},
            storage={"usage": f"postgresql://u:{password}@h/d", "limits": f"redis://:{password}@h"},
        )

    shown = json.dumps(differences(made(*texts[:4]), made(*texts[4:])).shown())
    assert "storage.usage" in shown
    for text in texts:
        assert text not in shown
