"""What makes two requests belong together, for the sticky strategy.

A session header where the client sends one, else the beginning of the prompt: a conversation's
later turns repeat it, and providers cache by prefix, so the same provider is also the cheaper one.
"""

from __future__ import annotations

import msgspec

from radgateway.asgi import Scope, request_header

SESSION_HEADER = b"x-session-id"
PREFIX_BYTES = 1024
"""How much of the prompt counts: the length from which OpenAI and Anthropic cache at all is 1,024
tokens, but a short system prompt must already tell sessions apart."""


class _Prompt(msgspec.Struct):
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    contents: msgspec.Raw = msgspec.Raw()


_prompt = msgspec.json.Decoder(_Prompt)


def session_key(scope: Scope, model: str, body: bytes, content_type: bytes) -> bytes:
    """The bytes that stand for the session."""
    named = request_header(scope, SESSION_HEADER)
    if named:
        return named[:256]
    if content_type[:10].lower() == b"multipart/":
        return model.encode() + body[:PREFIX_BYTES]
    try:
        prompt = _prompt.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return model.encode() + body[:PREFIX_BYTES]
    parts = (prompt.system, prompt.instructions, prompt.messages, prompt.input, prompt.contents)
    return model.encode() + b"".join(bytes(part) for part in parts)[:PREFIX_BYTES]
