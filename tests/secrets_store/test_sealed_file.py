"""The last known secrets on disk: opened by their key and for their place alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radgateway.secrets.reading import StoreReading
from radgateway.secrets.sealed_file import SealedFile, SealedFileError, key_of

KEY = bytes(range(32))
READING = StoreReading({"/": {"OPENAI": "sk-in-the-store-1"}}, 1234.5)


def sealed(path: Path, key: bytes = KEY, source: str = "https://s p prod") -> SealedFile:
    return SealedFile(str(path), key, source)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Whole, with when it was read; only for its owner, and with none of it in the open."""
    path = tmp_path / "secrets.sealed"
    sealed(path).write(READING)
    assert sealed(path).read() == READING
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"sk-in-the-store" not in path.read_bytes()
    assert os.listdir(tmp_path) == ["secrets.sealed"]


def test_the_same_secrets_are_sealed_differently_each_time(tmp_path: Path) -> None:
    """A nonce that came twice would open both."""
    first, second = tmp_path / "a", tmp_path / "b"
    sealed(first).write(READING)
    sealed(second).write(READING)
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize(
    ("key", "source"),
    [(bytes(32), "https://s p prod"), (KEY, "https://s p dev"), (KEY, "https://other p prod")],
)
def test_another_key_or_place_does_not_open_it(tmp_path: Path, key: bytes, source: str) -> None:
    """The development project's secrets are not taken for production's."""
    path = tmp_path / "secrets.sealed"
    sealed(path).write(READING)
    with pytest.raises(SealedFileError, match="does not open"):
        sealed(path, key, source).read()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_damaged_file_is_refused_wherever_it_is_damaged(
    tmp_path: Path, at: int, flip: int
) -> None:
    """Any byte that was changed, and any end that is missing."""
    path = tmp_path / "secrets.sealed"
    sealed(path).write(READING)
    whole = path.read_bytes()
    at %= len(whole)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    with pytest.raises(SealedFileError):
        sealed(path).read()
    path.write_bytes(whole[:at])
    with pytest.raises(SealedFileError):
        sealed(path).read()


def test_a_file_that_is_not_there_or_can_not_be_says_so(tmp_path: Path) -> None:
    """With what the gateway needs; nothing is left behind by a writing that failed."""
    with pytest.raises(SealedFileError, match="No such file"):
        sealed(tmp_path / "none").read()
    with pytest.raises(SealedFileError, match="needs to write in its folder"):
        sealed(tmp_path / "none" / "file").write(READING)
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(SealedFileError, match="can't be written"):
        sealed(folder).write(READING)
    assert os.listdir(tmp_path) == ["taken"]


def test_the_old_file_stands_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed in between leaves what was there."""
    path = tmp_path / "secrets.sealed"
    sealed(path).write(READING)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SealedFileError, match="No space left"):
        sealed(path).write(StoreReading({"/": {}}, 2.0))
    assert sealed(path).read() == READING
    assert os.listdir(tmp_path) == ["secrets.sealed"]


@pytest.mark.parametrize("text", ["", "short", "!" * 44, "AAAA" * 11])
def test_a_key_that_is_none_says_how_to_make_one(text: str) -> None:
    """32 bytes in base64, and nothing that only looks like it."""
    with pytest.raises(SealedFileError, match="openssl rand -base64 32") as caught:
        key_of(text)
    assert not text or text not in str(caught.value)
    assert key_of("AAAA" * 10 + "AAA=") == bytes(32)
