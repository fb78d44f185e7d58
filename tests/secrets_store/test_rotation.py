"""Secrets put in where they differ, and nothing else touched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from radgateway.config import GatewayConfig, load_config
from radgateway.config.references import Unreadable
from radgateway.secrets.rotation import held_back, looked_up, rotated

ENVIRON = {"A": "key-of-a", "B": "key-of-b", "P": "key-of-p", "DB": "redis://:pw@h/0"}


DOCUMENT = {
    "keys": [{"name": "a", "secret": "env:A"}, {"name": "b", "secret": "env:B"}],
    "providers": {"p": {"kind": "openai", "base_url": "http://localhost/v1", "api_key": "env:P"}},
    "models": {"m": {"candidates": [{"provider": "p"}]}},
    "storage": {"usage": "memory://", "limits": "env:DB"},
}


def config(**changed: str) -> GatewayConfig:
    return load_config(DOCUMENT, ENVIRON | changed)


def test_only_what_differs_is_changed_and_named() -> None:
    """By where it stands and what it is read from."""
    before = config()
    after = rotated(before, {"env:A": "key-of-a", "env:P": "another-of-p"})
    assert after.changed == ("providers.p.api_key from env:P",)
    key = after.config.providers["p"].api_key
    assert key is not None
    assert key.reveal() == "another-of-p"
    assert after.config.keys is not None
    assert after.config.keys == before.keys
    assert (after.waiting, after.faults) == ((), {})


def test_an_address_of_a_storage_waits_for_a_restart() -> None:
    """Its connections are made when the process starts."""
    after = rotated(config(), {"env:DB": "redis://:other@h/0"})
    assert after.waiting == ("storage.limits from env:DB",)
    assert not after.changed
    assert after.config == config()


def test_what_waits_for_a_restart_holds_back_nothing_else() -> None:
    """The address stays the one that is connected; the key beside it is the new one."""
    current = config()
    made, waiting = held_back(config(DB="redis://:other@h/0", A="another-of-a"), current)
    assert waiting == ["storage.limits from env:DB"]
    assert made.storage == current.storage
    assert made.keys[0].secret.reveal() == "another-of-a"


def test_another_reference_is_another_storage() -> None:
    """Somebody wrote it there, and must hear that it is not done."""
    moved = load_config(
        {**DOCUMENT, "storage": {"limits": "env:DB2"}}, {**ENVIRON, "DB2": "redis://h2/0"}
    )
    assert held_back(moved, config()) == (moved, [])


def test_a_secret_that_no_header_can_carry_is_not_taken() -> None:
    """The last one serves."""
    after = rotated(config(), {"env:A": "half\nwritten", "env:B": "another-of-b"})
    assert after.config.keys[0].secret.reveal() == "key-of-a"
    assert after.config.keys[1].secret.reveal() == "another-of-b"
    assert "no HTTP header" in after.faults["env:A"]
    assert "half" not in after.faults["env:A"]


def test_what_gives_nothing_is_a_fault_and_no_text() -> None:
    """The others are read all the same."""

    def read(reference: str) -> str:
        if reference == "file:b":
            raise Unreadable("is gone")
        return reference

    found = looked_up(["file:a", "file:b"], read)
    assert found.texts == {"file:a": "file:a"}
    assert found.faults == {"file:b": "is gone"}


TEXTS = st.dictionaries(
    st.sampled_from(["env:A", "env:B", "env:P", "env:DB", "env:NOT_THERE"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
)


@given(TEXTS)
def test_putting_in_the_same_twice_changes_nothing_more(texts: dict[str, str]) -> None:
    """And whatever is put in, each reference has its text afterwards, storages' apart."""
    once = rotated(config(), texts)
    twice = rotated(once.config, texts)
    assert twice.config == once.config
    assert not twice.changed
    holders = {
        "env:A": once.config.keys[0].secret,
        "env:B": once.config.keys[1].secret,
        "env:P": once.config.providers["p"].api_key,
    }
    for reference, secret in holders.items():
        assert secret is not None
        assert secret.reveal() == texts.get(reference, ENVIRON[reference.removeprefix("env:")])
