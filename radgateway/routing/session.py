"""What makes two requests belong together, for the sticky strategy.

A session header where the client sends one, else how the conversation opens: the system prompt and
the turns up to the first from the user. Later turns repeat all of it, and providers cache by
prefix, so the same provider is also the cheaper one. Two conversations that share a system prompt
differ in what their users said first.
"""

from __future__ import annotations

import hashlib

import msgspec

from radgateway.asgi import Scope, request_header

SESSION_HEADER = b"x-session-id"
PREFIX_BYTES = 1024
"""How much of each turn counts, so that a turn with an image costs no more than another."""


class _Prompt(msgspec.Struct):
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    contents: msgspec.Raw = msgspec.Raw()


class _Turn(msgspec.Struct):
    role: str = ""


_prompt = msgspec.json.Decoder(_Prompt)
_roles = msgspec.json.Decoder(list[_Turn])
_items = msgspec.json.Decoder(list[msgspec.Raw])


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
    parts = [bytes(prompt.system), bytes(prompt.instructions)]
    parts += map(_opening, (prompt.messages, prompt.input, prompt.contents))
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    return model.encode() + b"\0" + digest.digest()


def _opening(turns: msgspec.Raw) -> bytes:
    """The turns of a conversation up to its first from the user, which every later one repeats."""
    raw = bytes(turns)
    if not raw.startswith(b"["):
        return raw[:PREFIX_BYTES]
    try:
        roles, items = _roles.decode(raw), _items.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return raw[:PREFIX_BYTES]
    first_user = next((at for at, turn in enumerate(roles) if turn.role == "user"), 0)
    return b"".join(bytes(item)[:PREFIX_BYTES] for item in items[: first_user + 1])
