"""Secrets: read from where they are, and shown nowhere."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import pytest
from config.config_cases import DOCUMENTED, SECRETS, SMALL, loaded, refused, written
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from radgateway.config import (
    ConfigError,
    Dsn,
    Secret,
    effective,
    load_config,
    resolve_secrets,
)
from radgateway.config.secrets import secrets_in


def test_a_secret_prints_as_stars() -> None:
    """No usual way of making text of it gives its own."""
    secret = Secret("hunter22")
    texts = [repr(secret), str(secret), f"{secret}", f"{secret!r:>9}", f"{[secret]}"]
    assert all("***" in text and "hunter22" not in text for text in texts)
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == "hunter22"
    assert copy.deepcopy(secret) == secret == pickle.loads(pickle.dumps(secret))


def test_an_unread_reference_does_not_pass_for_a_secret() -> None:
    """`reveal` on it is a mistake that is told, naming the reference."""
    with pytest.raises(RuntimeError, match="env:X has not been resolved"):
        Secret(reference="env:X").reveal()
    assert Secret(reference="env:X") != Secret("env:X")
    assert Secret(reference="env:X") == Secret.of("env:X")
    assert Secret("é") != Secret("\ud800")
    with pytest.raises(ValueError, match="needs a value"):
        Secret()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sqlite:///radgateway.db", "sqlite:///radgateway.db"),
        ("redis://:hunter22@h:1/0", "redis://***@h:1/0"),
        ("postgresql://u:hunter22/x@y@h/d", "postgresql://***@h/d"),
        ("redis://h/0?password=hunter22", "redis://h/0?***"),
        ("u:hunter22@h", "***@h"),
        ("env:DATABASE", "env:DATABASE"),
    ],
)
def test_an_address_prints_without_what_may_be_secret(address: str, shown: str) -> None:
    """User info and query are masked, however the password is written."""
    assert str(Dsn(address)) == repr(Dsn(address)) == f"{Dsn(address)}" == shown


def test_files_are_read_and_lose_one_newline(tmp_path: Path) -> None:
    """`echo secret > file` is the usual way to make one."""
    for data, expected in ((b"abc\n", "abc"), (b"abc\r\n", "abc"), (b"abc", "abc")):
        (tmp_path / "key").write_bytes(data)
        config = loaded(tmp_path, SMALL.replace("env:RAD_KEY", f"file:{tmp_path / 'key'}"))
        assert config.keys[0].secret.reveal() == expected


def test_files_that_hold_no_secret_are_refused(tmp_path: Path) -> None:
    """Missing, empty, too large, not text, not a file: each says so, with the path and the key."""
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "is empty"),
        "newline": (b"\n", "is empty"),
        "large": (b"x" * 65_537, "is larger than 65536 bytes"),
        "binary": (b"\xff\xfe", "is not UTF-8 text"),
        "lines": (b"abc\n\n", "no HTTP header can carry"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        text = SMALL.replace("env:RAD_KEY", f"file:{tmp_path / name}")
        (problem,) = refused(written(tmp_path, text))
        assert (problem.path, problem.line) == ("keys[0].secret", 1)
        assert message in problem.message
    for path in (tmp_path / "none", tmp_path):
        (problem,) = refused(written(tmp_path, SMALL.replace("env:RAD_KEY", f"file:{path}")))
        assert repr(str(path)) in problem.message


def test_a_pipe_does_not_hold_up_the_start(tmp_path: Path) -> None:
    """A reference to what is no regular file is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    file = written(tmp_path, SMALL.replace("env:RAD_KEY", f"file:{tmp_path / 'pipe'}"))
    found: list[str] = []

    def load() -> None:
        try:
            load_config(file, {})
        except ConfigError as error:
            found.append(str(error))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(5)
    assert found
    assert "is not a regular file" in found[0]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "the environment variable ELSEWHERE is not set"),
        ({"ELSEWHERE": ""}, "the environment variable ELSEWHERE is empty"),
        ({"ELSEWHERE": "a\nb"}, "holds a character that no HTTP header can carry"),
        ({"ELSEWHERE": " a"}, "holds a character that no HTTP header can carry"),
    ],
)
def test_variables_that_hold_no_secret_are_named(
    tmp_path: Path, environ: dict[str, str], message: str
) -> None:
    """The problem names the variable, the key and the line."""
    (problem,) = refused(written(tmp_path, SMALL.replace("env:RAD_KEY", "env:ELSEWHERE")), environ)
    assert (problem.path, problem.line) == ("keys[0].secret", 1)
    assert message in problem.message


def test_a_secret_written_as_a_reference_is_not_repeated(tmp_path: Path) -> None:
    """`env:` in front of the secret itself is a mistake that must not end up in a log."""
    (problem,) = refused(written(tmp_path, SMALL.replace("env:RAD_KEY", "env:sk-hunter22")))
    assert problem.message == "env: must be followed by the name of an environment variable"


@pytest.mark.parametrize("environment", ["local", "alpha"])
def test_a_plain_secret_is_noticed_on_a_developers_machine(
    tmp_path: Path, environment: str
) -> None:
    """It works, and is pointed out without being shown."""
    text = f"environment: {environment}\n" + SMALL.replace("env:RAD_KEY", "hunter22")
    config = loaded(tmp_path, text)
    assert config.keys[0].secret.reveal() == "hunter22"
    assert config.notices == ("keys[0].secret holds a secret in plain text; env:NAME keeps it out",)


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("env:RAD_KEY", "hunter22", "keys[0].secret"),
        ("keys:", "storage: {limits: 'redis://:hunter22@h/0'}\nkeys:", "storage.limits"),
    ],
)
def test_a_plain_secret_is_refused_where_files_are_shared(
    tmp_path: Path, environment: str, old: str, new: str, path: str
) -> None:
    """Staging and production take references, and secrets from the environment."""
    text = f"environment: {environment}\n" + SMALL.replace(old, new)
    (problem,) = refused(written(tmp_path, text))
    assert (problem.path, problem.line) == (path, 2)
    assert "in plain text" in problem.message
    assert "hunter22" not in str(problem)
    config = loaded(
        tmp_path,
        f"environment: {environment}\n" + SMALL,
        {"RADGATEWAY_KEYS__0__SECRET": "hunter22"},
    )
    assert config.keys[0].secret.reveal() == "hunter22"


def test_references_can_be_left_unread_and_read_later(tmp_path: Path) -> None:
    """A file is checked where its secrets are not; reading them later finds each that lacks."""
    config = load_config(written(tmp_path, DOCUMENTED), {}, resolve=False)
    assert not config.keys[0].secret.resolved
    assert resolve_secrets(config, SECRETS) == loaded(tmp_path, DOCUMENTED)
    with pytest.raises(ConfigError) as caught:
        resolve_secrets(config, {"RAD_KEY": "x"})
    assert [problem.path for problem in caught.value.problems] == [
        "admin_keys[0].secret",
        "providers.openai.api_key",
    ]


_SECRET = st.from_regex(r"[!-~]{8,30}", fullmatch=True).filter(
    # A comma ends a key in RAD_API_KEYS.
    lambda s: "," not in s and not s.startswith(("env:", "file:", "infisical:"))
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(secret=_SECRET, how=st.sampled_from(["env", "literal", "overlay", "json", "file", "RAD"]))
def test_no_secret_is_ever_shown(tmp_path: Path, secret: str, how: str) -> None:
    """Wherever it comes from: not in repr, the effective configuration, notices or problems."""
    assume(how != "RAD" or "," not in secret)  # the original's list has no way to quote one
    marked = f"HUNTER22{secret}"
    (tmp_path / "key").write_text(marked)
    reference = {"env": "env:SEEDED", "file": f"file:{tmp_path / 'key'}", "literal": marked}
    text = reference.get(how, "env:RAD_KEY")
    environ = SECRETS | {"SEEDED": marked}
    if how == "overlay":
        environ["RADGATEWAY_KEYS__0__SECRET"] = marked
    elif how == "json":
        quoted = marked.replace("\\", "\\\\").replace('"', '\\"')
        environ["RADGATEWAY_KEYS"] = f'[{{"name": "a", "secret": "{quoted}"}}]'
    elif how == "RAD":
        environ["RAD_API_KEYS"] = f"a:{marked}"
    source = {
        "keys": [{"name": "a", "secret": text}],
        "providers": {
            "mock": {"kind": "mock", "headers": {"X-A": text}},
            "p": {"kind": "openai", "base_url": "http://h", "api_key": text},
        },
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
        "storage": {
            "limits": f"redis://:{marked.replace('/', '')}@h:1/0",
            "usage": f"postgresql://u:{quote(marked, safe='')}@h/d",
        },
    }
    if how == "RAD":
        del source["keys"]
    config = load_config(source, environ)
    texts = [repr(config), str(config), effective(config), str(asdict(config)), *config.notices]
    for broken in (
        source | {"keys": [{"name": "", "secret": text, "extra": text}] * 2},
        source | {"environment": "production", "models": {}},
        source | {"keys": text},
        source | {"storage": {"usage": f"postgresql://u:{marked}@h/d"}},
        source | {"storage": {"usage": f"postgresql://h/d?password={marked}&port"}},
        source | {"keys": [text], "storage": {"usage": f"postgres://u:{marked}@h"}},
    ):
        try:
            texts.append(repr(load_config(broken, environ)))
        except ConfigError as error:
            texts += [str(error), repr(error.problems)]
    assert not any("HUNTER22" in text for text in texts)


def test_a_broken_file_does_not_quote_its_secrets(tmp_path: Path) -> None:
    """What the parser stumbled over may be a piece of one."""
    for value in (
        "*hunter22",
        "&hunter22 x",
        "!hunter22 x",
        "!a!hunter22 x",
        "'hunter22",
        "[hunter22",
    ):
        (problem,) = refused(written(tmp_path, f"keys: [{{name: a, secret: {value}}}]\n\t"))
        assert "hunter22" not in str(problem)


def test_all_secrets_of_a_configuration_are_found() -> None:
    """Keys of callers, admins and providers, and passwords in addresses, as sent and as meant."""
    config = load_config(
        {
            "keys": [{"name": "a", "secret": "env:A"}],
            "admin_keys": [{"name": "o", "secret": "of-an-admin"}],
            "providers": {
                "p": {"kind": "openai", "base_url": "http://x", "api_key": "of-a-provider"}
            },
            "models": {"m": {"candidates": [{"provider": "p"}]}},
            "storage": {
                "usage": "postgresql://rad:p%40ss@db/usage",
                "limits": "redis://:of-a-cache@cache:6379/0",
            },
        },
        {"A": "of-a-caller"},
    )
    assert set(secrets_in(config)) == {
        "of-a-caller",
        "of-an-admin",
        "of-a-provider",
        "p%40ss",
        "p@ss",
        "of-a-cache",
    }
