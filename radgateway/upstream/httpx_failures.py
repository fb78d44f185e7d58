"""What the exceptions of httpx and httpx2 mean at the seam: one table, tested for totality."""

from __future__ import annotations

from radgateway.upstream.interface import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    PoolTimeout,
    UpstreamError,
)

# httpx and httpx2 have one tree of exceptions but no class in common, so the names are the key.
# The nearest name in an exception's MRO counts; a test walks both trees and finds none unmapped.
FAILURES: dict[str, type[UpstreamError]] = {
    "ConnectTimeout": ConnectTimeout,
    "ReadTimeout": FirstByteTimeout,  # while the body is read: IdleTimeout
    "WriteTimeout": IdleTimeout,
    "PoolTimeout": PoolTimeout,
    "TimeoutException": FirstByteTimeout,
    "ConnectError": ConnectFailed,
    "ReadError": ConnectionLost,
    "WriteError": ConnectionLost,
    "CloseError": ConnectionLost,
    "NetworkError": ConnectionLost,
    "ProxyError": ConnectFailed,
    "UnsupportedProtocol": ConnectFailed,
    "LocalProtocolError": UpstreamError,
    "RemoteProtocolError": BadResponse,  # without a cause in the parser: ConnectionLost
    "ProtocolError": BadResponse,
    "TransportError": ConnectionLost,
    "DecodingError": BadResponse,
    "TooManyRedirects": BadResponse,
    "RequestError": UpstreamError,
    "HTTPStatusError": BadResponse,
    "HTTPError": UpstreamError,
    "InvalidURL": ConnectFailed,
    "CookieConflict": BadResponse,
    "StreamConsumed": ConnectionLost,
    "StreamClosed": ConnectionLost,
    "ResponseNotRead": ConnectionLost,
    "RequestNotRead": ConnectionLost,
    "StreamError": ConnectionLost,
    "SSEError": BadResponse,  # httpx2 only
}


def failure_of(error: Exception, *, in_body: bool) -> Exception:
    """The `UpstreamError` for an exception of the library; what is not one comes back as it is."""
    if isinstance(error, UpstreamError):
        return error
    message = f"{type(error).__name__}: {error}"
    for cls in type(error).__mro__:
        failure = FAILURES.get(cls.__name__) if is_library(cls.__module__) else None
        if failure is None:
            continue
        if in_body and failure is FirstByteTimeout:
            failure = IdleTimeout
        elif cls.__name__ == "RemoteProtocolError" and (in_body or not _from_parser(error)):
            failure = ConnectionLost
        return failure(message)
    if isinstance(error, OSError):
        return ConnectionLost(message)
    return error


def _from_parser(error: BaseException) -> bool:
    """Whether h11 or h2 raised it, so that the bytes were wrong and not merely missing."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__module__.partition(".")[0] in {"h11", "h2"}:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def is_library(module: str) -> bool:
    """Whether a module belongs to httpx or httpx2."""
    return module.partition(".")[0] in {"httpx", "httpx2"}
