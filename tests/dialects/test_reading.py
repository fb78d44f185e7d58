from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.dialects import AnthropicMessages, Gemini, OpenAI, OpenAIChat
from radgateway.errors import Refusal

JSON = b"application/json"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b'{"model": "a"', "invalid_json"),
        (b"[]", "invalid_request"),
        (b"{}", "missing_model"),
        (b'{"model": ""}', "missing_model"),
        (b'{"model": 3}', "invalid_model"),
        (b'{"model": null}', "invalid_model"),
        (b'{"model": ["a"]}', "invalid_model"),
        (b'{"model": "a\\r\\nx-evil: 1"}', "invalid_model"),
        (b'{"model": "' + b"a" * 257 + b'"}', "invalid_model"),
        (b'{"model": "a", "stream": "yes"}', "invalid_request"),
        (b'{"model": "\xff"}', "invalid_json"),
        (b'{"model": "a", "x": "\xff"}', "invalid_json"),
        (b'{"model": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
    ],
)
def test_a_bad_body_is_named(body: bytes, code: str) -> None:
    """Each way a body can be wrong has its code, and none raises anything else."""
    with pytest.raises(Refusal) as refused:
        OpenAIChat().read("/v1/chat/completions", JSON, body)
    assert refused.value.code == code
    assert refused.value.status == 400


@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(body: bytes) -> None:
    """No bytes at all crash the reading, whatever the dialect."""
    gemini = "/v1beta/models/m:generateContent"
    for dialect, path in (
        (OpenAIChat(), "/v1/chat/completions"),
        (AnthropicMessages(), "/v1/messages"),
        (Gemini(), gemini),
    ):
        with contextlib.suppress(Refusal):
            assert dialect.read(path, JSON, body).model


@pytest.mark.parametrize("content_type", [b"", JSON, b"application/json; charset=utf-8"])
def test_json_content_types_are_taken(content_type: bytes) -> None:
    """A missing content type counts as JSON; curl users forget it."""
    ask = OpenAIChat().read("/", content_type, b'{"model":"a"}')
    assert (ask.model, ask.stream, ask.usage_wanted) == ("a", False, True)


def test_another_content_type_is_415() -> None:
    """A body that says it is something else is not guessed at."""
    with pytest.raises(Refusal) as refused:
        OpenAIChat().read("/", b"text/plain", b'{"model":"a"}')
    assert refused.value.status == 415


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", False),
        (',"stream_options":null', False),
        (',"stream_options":{}', False),
        (',"stream_options":{"include_usage":false}', False),
        (',"stream_options":{"include_usage":true}', True),
        (',"stream_options":"nonsense"', True),
    ],
)
def test_asking_for_usage(options: str, wanted: bool) -> None:
    """Usage is asked for only where the caller did not; options that are wrong pass untouched."""
    body = f'{{"model":"a","stream":true{options}}}'.encode()
    ask = OpenAIChat().read("/p", JSON, body)
    assert ask.usage_wanted is wanted
    _, addressed = OpenAIChat().address(ask, "a", include_usage=not wanted)
    again = OpenAIChat().read("/p", JSON, addressed)
    assert again.usage_wanted
    if wanted:
        assert addressed is body


def test_other_stream_options_are_kept() -> None:
    """Asking for usage must not lose an option that the caller set."""
    body = b'{"model":"a","stream":true,"stream_options":{"x":[1.0],"include_usage":false}}'
    ask = OpenAIChat().read("/p", JSON, body)
    _, addressed = OpenAIChat().address(ask, "b", include_usage=True)
    assert addressed == (
        b'{"model":"b","stream":true,"stream_options":{"x":[1.0],"include_usage":true}}'
    )


def form(*parts: tuple[str, bytes], boundary: bytes = b"xyz") -> bytes:
    """A multipart body."""
    body = b""
    for disposition, value in parts:
        body += b"--" + boundary + b"\r\nContent-Disposition: form-data; " + disposition.encode()
        body += b"\r\n\r\n" + value + b"\r\n"
    return body + b"--" + boundary + b"--\r\n"


FORM = b"multipart/form-data; boundary=xyz"


@given(audio=st.binary(max_size=300))
def test_a_form_keeps_its_file_to_the_byte(audio: bytes) -> None:
    """The model is found behind any file, and replacing it changes nothing else."""
    if b"\r\n--xyz" in audio:
        return
    parts = [('name="file"; filename="name=model;.wav"', audio), ('name="model"', b"whisper-1")]
    ask = OpenAI().read("/v1/audio/transcriptions", FORM, form(*parts))
    assert ask.model == "whisper-1"
    _, body = OpenAI().address(ask, "other", include_usage=False)
    assert body == form(parts[0], ('name="model"', b"other"))


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        (b"multipart/form-data", b"", "invalid_request"),
        (FORM, b"", "invalid_request"),
        (FORM, form(('name="file"', b"x")), "missing_model"),
        (FORM, form(('name="model"', b"")), "missing_model"),
        (FORM, form(('name="model"', b"\xff")), "invalid_model"),
        (FORM, form(('name="model"', b"a"))[:-20], "invalid_request"),
        (FORM, b"--xyz\r\n" + b"h: v\r\n" * 5000, "invalid_request"),
    ],
)
def test_a_bad_form_is_named(content_type: bytes, body: bytes, code: str) -> None:
    """A form without a model, or cut short, is refused without reading its file."""
    with pytest.raises(Refusal) as refused:
        OpenAI().read("/v1/audio/transcriptions", content_type, body)
    assert refused.value.code == code


def test_gemini_names_the_model_in_the_path() -> None:
    """The model is taken from the path and put back there, percent-encoded where needed."""
    ask = Gemini().read("/v1beta/models/gemini-1.5-flash:streamGenerateContent", JSON, b"{}")
    assert (ask.model, ask.stream) == ("gemini-1.5-flash", True)
    path, body = Gemini().address(ask, "tuned models/x", include_usage=False)
    assert path == "/v1beta/models/tuned%20models/x:streamGenerateContent"
    assert body == b"{}"


def test_a_form_of_countless_parts_is_refused() -> None:
    """Looking for the model has a bound."""
    parts = [(f'name="f{n}"', b"x") for n in range(300)]
    with pytest.raises(Refusal) as refused:
        OpenAI().read("/v1/audio/transcriptions", FORM, form(*parts, ('name="model"', b"m")))
    assert refused.value.code == "invalid_request"
