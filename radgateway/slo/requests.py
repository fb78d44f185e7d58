"""What requests count as, in PromQL: the one definition behind objectives, alerts and releases.

Each function gives the series over a window, `rad_gateway_requests_total{...}[5m]`, for the label
matchers that are given.
"""

from __future__ import annotations


def valid(window: str, matchers: str = "") -> str:
    """All that were asked."""
    return _series("rad_gateway_requests_total", window, matchers)


def failed(window: str, matchers: str = "") -> str:
    """Those that were answered with a server error."""
    return _series("rad_gateway_requests_total", window, matchers, 'status=~"5.."')


def broken(window: str, matchers: str = "") -> str:
    """Those whose answer had begun well and was not completed."""
    return _series("rad_gateway_responses_interrupted_total", window, matchers)


def _series(metric: str, window: str, *matchers: str) -> str:
    inside = ",".join(each for each in matchers if each)
    return f"{metric}{{{inside}}}[{window}]" if inside else f"{metric}[{window}]"
