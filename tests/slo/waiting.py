"""Waiting for a condition of other processes, with a limit that a busy machine keeps, too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

LIMIT_S = 120.0
T = TypeVar("T")


def until(ask: Callable[[], T | None], what: object, every_s: float = 0.1) -> T:
    """What it answers, once it answers something true; an error of the network is no answer.

    `what` is what is waited for, or something that knows by the end what is missing.
    """
    end = time.monotonic() + LIMIT_S
    while True:
        with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
            if found := ask():
                return found
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        time.sleep(every_s)  # nobody says when it is so: these are other processes
