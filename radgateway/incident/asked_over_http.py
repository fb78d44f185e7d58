"""Asking a running incident app, for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from radgateway.config.references import local, resolve
from radgateway.config.secrets import Secret

URL_VARIABLE: Final = "RAD_INCIDENT_URL"
KEY_VARIABLE: Final = "RAD_INCIDENT_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8095"
_TIMEOUT_S: Final = 30.0


class Unanswered(Exception):
    """The app can't tell now; the message says why."""


class RefusedByApp(ValueError):
    """The app refuses, and says what to do instead."""


class IncidentApp:
    """One that runs. Its methods raise `Unanswered` or `RefusedByApp`."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"}

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """What a path shows."""
        return self._json(self._ask("GET", path, query=query))

    def text(self, path: str) -> str:
        """What a path shows, as text."""
        return self._ask("GET", path).text

    def post(self, path: str, order: Mapping[str, Any]) -> Any:
        """What an order comes to."""
        return self._json(self._ask("POST", path, order=order))

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        order: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        try:
            answer = httpx.request(
                method,
                f"{self._url}{path}",
                params=query,
                json=order,
                headers=self._headers,
                timeout=_TIMEOUT_S,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise Unanswered(f"the incident app does not answer at {self._url}: {said}") from None
        if answer.is_success:
            return answer
        message = self._message(answer)
        if 400 <= answer.status_code < 500 and answer.status_code != 429:
            raise RefusedByApp(message)
        raise Unanswered(message)

    def _message(self, answer: httpx.Response) -> str:
        try:
            return str(answer.json()["error"]["message"])
        except (ValueError, LookupError, TypeError):
            return f"it answers {answer.status_code}, in no form that this version knows"

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise Unanswered("it answers in no form that this version knows") from None


def app_of(url: str | None, key: str | None, environ: Mapping[str, str]) -> IncidentApp:
    """The app that options or variables name. Raises `ValueError`.

    A key itself is refused on the command line, which all can see.
    """
    url = url or environ.get(URL_VARIABLE) or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise ValueError("--url must be an http:// or https:// address")
    secret = Secret.of(key or f"env:{KEY_VARIABLE}")
    if secret.reference is None:
        raise ValueError("--key must be env:NAME or file:PATH, not the key itself")
    faults: list[str] = []
    found = resolve(secret, local(environ), lambda path, fault: faults.append(fault))
    if faults:
        raise ValueError(f"--key: {faults[0]}")
    return IncidentApp(url, found.reveal())
