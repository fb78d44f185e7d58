"""What PagerDuty's Events API v2 says of an event that is sent to it.

The fields are those of its reference for `POST /v2/enqueue`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ACTIONS = ("trigger", "acknowledge", "resolve")
SEVERITIES = ("critical", "error", "warning", "info")


def complaints(event: Any) -> list[str]:
    """Why it would answer 400; nothing for an event that it takes."""
    return list(_complaints(event)) if isinstance(event, dict) else ["not an object"]


def _complaints(event: dict[str, Any]) -> Iterator[str]:
    if not _text(event.get("routing_key"), 64):
        yield "routing_key must be a text"
    if event.get("event_action") not in ACTIONS:
        yield f"event_action must be one of {ACTIONS}"
    if not _text(event.get("dedup_key"), 255):
        yield "dedup_key must be a text of at most 255 characters"
    if event.get("event_action") != "trigger":
        return
    payload = event.get("payload", {})
    if not _text(payload.get("summary"), 1024):
        yield "payload.summary must be a text of at most 1024 characters"
    if not _text(payload.get("source"), 1024):
        yield "payload.source must be a text"
    if payload.get("severity") not in SEVERITIES:
        yield f"payload.severity must be one of {SEVERITIES}"
    for link in event.get("links", ()):
        if not _text(link.get("href"), 2048) or not link["href"].startswith("http"):
            yield "each of links must have a href"


def _text(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most
