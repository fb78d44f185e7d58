"""Keeps secrets out of records: by the name of a field, by the look of a value, and by itself.

The last step before a line is written, so whatever put a key into a message, an exception's text
or a nested field, it does not leave the process. Spans, usage rows and error bodies pass what a
caller chose through it too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from radgateway.telemetry.known_secrets import KnownSecrets

REDACTED: Final = "[redacted]"

TEXT_LIMIT: Final = 8_192
"""Characters kept of one value; a line stays a line even if somebody logs a body."""
DEPTH_LIMIT: Final = 6
ITEMS_LIMIT: Final = 200
_CUT_MARGIN: Final = 256
"""Characters given up before a cut: what it halves no longer looks like a secret."""
_NAME_LIMIT: Final = 256
"""Characters of a field's name that are looked at: the last, which say what it is."""
CHOSEN_LIMIT: Final = 256
"""Characters kept of a name that a caller chose."""

# Names, in lower case and with `_` for `-` and `.`. Those that only mean a secret are secret
# whatever the value is.
_SECRET_NAME = re.compile(
    r"secret|passw(?:or)?d|pass_?phrase|credential|private_?key|(?:api|access)_?key\Z"
    r"|authorization(?:_header)?\Z|\Ax_auth|(?:\A|_)(?:pwd|(?:set_)?cookie)\Z"
)
# Those that also name a count, an index or a flag hide everything but numbers: `input_tokens`,
# `max_tokens` and `session: 3` stay. The rest of a name counts, so what only tells which key it was
# stays too: `api_key_name`, `key_name`, `key_id`, `cache_key`, `session_count`. Our own lines use
# none of the names here; the tests hold them to that.
_SECRET_UNLESS_NUMBER = re.compile(
    r"token|\Akey\Z|(?:api|access)_?keys\Z|(?:\A|_)session(?:_?(?:id|key))?\Z"
    r"|(?:\A|_)sig(?:nature)?\Z|\Abearer\Z"
)

# Texts come from callers and providers, so each pattern takes linear time: at any place it either
# fails within a bounded number of steps or takes away what it read.

# `sk-` would be found in "task-scheduler": it has to begin a word, if only after an escape. This
# looks back from behind three letters, as each of the patterns begins with one: a search that
# knows the letters to look for skips all others quickly.
_AT_A_START = r"(?:(?<![A-Za-z0-9]...)|(?<=\\[nrt]...)|(?<=%[0-9A-Fa-f]{2}...))"
_TOKEN = re.compile(
    rf"sk-{_AT_A_START}[\w-]{{6,}}"  # OpenAI, Anthropic and many that follow them
    rf"|sk_{_AT_A_START}(?:live|test)_\w{{10,}}|rk_{_AT_A_START}(?:live|test)_\w{{10,}}"  # Stripe
    r"|rad-(?!gateway)[\w-]{32,}"  # our own, as config.defaults makes them; no pod's name
    r"|eyJ[\w-]{16,}(?:\.[\w-]*){0,4}"  # `{"`: JSON web tokens, signed (3 parts) or encrypted (5)
    r"|AIza[\w-]{20,}"  # Google
    r"|AKIA[A-Z0-9]{16}|ASIA[A-Z0-9]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"  # GitHub
    r"|hf_[A-Za-z0-9]{30,}"  # Hugging Face
    r"|gsk_[A-Za-z0-9]{20,}"  # Groq
    r"|xox[a-z]-[A-Za-z0-9-]{8,}"  # Slack
    r"|st\.[0-9a-f]{24,}(?:\.[0-9a-f]+){0,3}"  # Infisical, its service tokens
    r"|B(?i:earer|asic)\s{1,8}[\w.~+/=-]{6,}|b(?i:earer|asic)\s{1,8}[\w.~+/=-]{6,}",
    re.ASCII,
)
# PEM, its line breaks escaped or not. One that was cut off hides all that follows.
_PRIVATE_KEY = re.compile(
    r"BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY.*?(?:END [A-Z0-9 ]{0,40}?PRIVATE KEY|\Z)", re.DOTALL
)
# A password may hold what should have been escaped, `/` and `@`; a port and its path are none. A
# user alone is a token where it is as long as one.
_USER_INFO = re.compile(
    r"""://(?!\[)(?:
        [^\s/@:"]{16,}
        | [^\s/@:"]*+ : (?!\d{1,5}[/?\#,"]) (?:[^\s@:"]|:(?!//))++ (?:@[^\s/?\#@"]*+(?=@))*
    )@""",
    re.VERBOSE,
)
# `key` and `sig` are too common a word outside of a query string.
_PARAMETER = re.compile(
    r"""(
        (?: (?:\A | (?:[?&;]|u0026) (?:[\w.-]{0,32}[_-])?) (?:key|sig)
          | token|signature|(?:api|access|account)[_-]?key|secret|passw(?:or)?d|passphrase|pwd
          | bearer|session(?:_?id)?
        ) =
    ) (?: \\{0,2}["'][^"']+ | [^&\s"'<>]+ )""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


_known = KnownSecrets()
"""The process's: what is secret for one gateway in it is so for all."""


def remember(secrets: Iterable[str]) -> None:
    """Hide these from now on wherever they turn up, whatever they look like."""
    _known.add(secrets)
    _chosen.cache_clear()


def scrub(text: str) -> str:
    """A text without anything that is or looks like a secret, shortened to `TEXT_LIMIT`."""
    cut = len(text) > 2 * TEXT_LIMIT
    if cut:
        text = text[: 2 * TEXT_LIMIT]
    if "PRIVATE KEY" in text:  # first: it has spaces, where the others stop
        text = _PRIVATE_KEY.sub(REDACTED, text)
    text = _TOKEN.sub(REDACTED, text)
    if "://" in text:
        text = _USER_INFO.sub(f"://{REDACTED}@", text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\1{REDACTED}", text)
    text = _known.hide(text, REDACTED)
    if cut:
        text = text[:-_CUT_MARGIN]
    return text[:TEXT_LIMIT] + "…" if cut or len(text) > TEXT_LIMIT else text


def scrub_name(name: str) -> str:
    """A name that a caller chose, a model's for one, fit for any record: short, without secrets.

    A lone surrogate has no UTF-8 form, and one would cost a whole batch of rows or spans.
    """
    return _chosen(name) if len(name) <= CHOSEN_LIMIT else _plain(name)


def _plain(name: str) -> str:
    return scrub(name)[:CHOSEN_LIMIT].encode("utf-8", "replace").decode("utf-8")


_chosen = functools.lru_cache(maxsize=1024)(_plain)  # nearly all requests are for a few models


def is_secret(key: str, value: object) -> bool:
    """Whether a field's name says that its value is secret.

    `input_tokens: 12` is a count and `token: "abc"` a secret: a number under such a name stays.
    """
    always, unless_number = _judged(key[-_NAME_LIMIT:])
    return always or (unless_number and not (value is None or isinstance(value, int | float)))


@functools.lru_cache(maxsize=1024)  # a program has few names of fields, and uses them on each line
def _judged(key: str) -> tuple[bool, bool]:
    name = key.lower().replace("-", "_").replace(".", "_")
    return _SECRET_NAME.search(name) is not None, _SECRET_UNLESS_NUMBER.search(name) is not None


def redact(value: Any, depth: int = 0) -> Any:
    """A value fit for a log line: plain data, bounded, without secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _redact_container(value, depth) if depth < DEPTH_LIMIT else "…"
    if isinstance(value, bytes | bytearray):
        # Four bytes a character at most: where more are cut, `scrub` cuts too, and knows of it.
        value = bytes(value[: 8 * TEXT_LIMIT + 4]).decode("utf-8", "replace")
    try:
        return scrub(str(value))
    except Exception:  # somebody's __str__ must not cost the line
        return f"<{type(value).__name__}>"


def _redact_container(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {
            scrub(str(key)): REDACTED if is_secret(str(key), each) else redact(each, depth + 1)
            for key, each in list(value.items())[:ITEMS_LIMIT]
        }
    items = list(value)[:ITEMS_LIMIT]
    # A header is a pair of name and value, in ASGI of bytes: its name hides its value too.
    if len(items) == 2 and isinstance(items[0], str | bytes):
        name = items[0].decode("latin-1") if isinstance(items[0], bytes) else items[0]
        if is_secret(name, items[1]):
            return [scrub(name), REDACTED]
    return [redact(item, depth + 1) for item in items]
