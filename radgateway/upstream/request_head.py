"""Writing a request's head: URLs taken apart once, header names checked once, one join per call.

Nothing a caller passes can add a line to the head or change how its body is framed: CR, LF and NUL
anywhere in it, a name that is no token, and the headers that are the client's own to write are
refused with ValueError before a connection is touched (RFC 9110 §5.1, §5.5; RFC 9112 §11.1).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from radgateway.asgi import Headers

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"[!-~]+")
_OURS = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te"}
)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MAX_NAMES = 512


class Origin(NamedTuple):
    """Where connections go: what a pool is kept for."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class _NameLines(dict[bytes, bytes]):
    """Header names that have passed the check, each as the start of its line; bounded."""

    def __missing__(self, name: bytes) -> bytes:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"header name {name!r} is not a token")
        if name.lower() in _OURS:
            raise ValueError(f"header {name!r} is written by the client, not by its caller")
        line = b"\r\n" + name + b": "
        if len(self) < _MAX_NAMES:
            self[name] = line
        return line


_name_lines = _NameLines()


def parse_url(url: str) -> tuple[Origin, str, str]:
    """The origin, the Host value and the request target of an absolute http or https URL."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"url {url!r} is not an absolute http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url carries credentials; send them in a header")
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode()
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    # urlsplit drops tabs and line ends silently, so the URL itself is what must be clean.
    if not _TARGET.fullmatch(target) or not _TARGET.fullmatch(host) or not url.isprintable():
        raise ValueError(f"url {url!r} has characters that must be percent-encoded")
    default_port = 443 if parts.scheme == "https" else 80
    port = parts.port or default_port
    host_value = f"[{host}]" if ":" in host else host
    if port != default_port:
        host_value += f":{port}"
    return Origin(parts.scheme, host, port), host_value, target


def start_of_head(method: str, target: str, host_value: str) -> bytes:
    """The request line and Host, which are the same for every call to one URL."""
    if not _TOKEN.fullmatch(method.encode()):
        raise ValueError(f"method {method!r} is not a token")
    return f"{method} {target} HTTP/1.1\r\nhost: {host_value}".encode("ascii")


def render_head(start: bytes, method: str, headers: Headers, length: int | None) -> bytes:
    """The whole head; `length` of the body in bytes, None where it will be sent in chunks."""
    lines = [start]
    for name, value in headers:
        lines.append(_name_lines[name])
        lines.append(value)
    if length is None:
        lines.append(b"\r\ntransfer-encoding: chunked\r\n\r\n")
    elif length or method in _WITH_BODY:
        lines.append(b"\r\ncontent-length: %d\r\n\r\n" % length)
    else:
        lines.append(b"\r\n\r\n")
    head = b"".join(lines)
    # One line end for each field, the request line, Host, the framing and the empty line: any
    # more came in through a value. Three scans in C are cheaper than a check of each value.
    ends = len(headers) + (4 if length is None or length or method in _WITH_BODY else 3)
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("a header value contains a line end or NUL")
    return head


def check_headers(headers: Headers) -> None:
    """Refuse with ValueError what `render_head` refuses, for a client that writes heads itself."""
    for name, value in headers:
        _ = _name_lines[name]
        if b"\r" in value or b"\n" in value or b"\0" in value:
            raise ValueError("a header value contains a line end or NUL")
