"""The management side of a gateway, as an experiment needs it: look, arm, disarm."""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec

from radgateway.chaos.experiment import CannotRun
from radgateway.upstream.interface import Timeouts, Upstream, UpstreamError, UpstreamRequest

_CLOCKS = Timeouts(connect_s=5, pool_s=5, first_byte_s=10, idle_s=10, total_s=20)
_ABORTS = frozenset({"error_ratio", "all_affected"})


class GatewayAPI:
    """Calls one gateway with an admin key. What it answers that was not asked for: `CannotRun`."""

    def __init__(self, client: Upstream, url: str, admin_key: str) -> None:
        self.url = url
        self._client = client
        self._armed_at = math.inf
        self._headers = [
            (b"x-api-key", admin_key.encode("latin-1")),
            (b"content-type", b"application/json"),
        ]

    async def providers(self) -> dict[str, dict[str, Any]]:
        """What each provider is up to, by name."""
        answer = await self._json("GET", "/v0/management/providers")
        return {state["name"]: state for state in answer["data"]}

    async def circuit(self, provider: str) -> str | None:
        """The state of a provider's breaker; None where it has none."""
        state: str | None = (await self.providers())[provider]["circuitState"]
        return state

    async def check_armable(self) -> None:
        """Raise `CannotRun` where faults may not be armed, or somebody else's are."""
        view = await self._json("GET", "/v0/management/faults")
        if not view["allowed"]:
            raise CannotRun(
                f"{self.url} arms no faults: it serves production, and its configuration does not "
                "say chaos: {allow: true}"
            )
        if view["armed"]:
            others = ", ".join(f"{a['provider']} by {a['by']}" for a in view["armed"])
            raise CannotRun(f"another experiment is under way at {self.url}: {others}")

    async def readiness(self) -> dict[str, Any]:
        """What the gateway says of itself and its dependencies."""
        _, body = await self._call("GET", "/health/ready")
        decoded: dict[str, Any] = msgspec.json.decode(body)
        return decoded

    async def arm(
        self,
        provider: str,
        faults: dict[str, Any],
        for_s: float,
        abort: dict[str, Any] | None = None,
    ) -> None:
        """Break a provider, for so many seconds at most."""
        order = {
            "provider": provider,
            "faults": faults,
            "for_s": round(min(for_s, 1800.0), 3),
            "abort": abort or {},
        }
        self._armed_at = min(self._armed_at, time.monotonic())
        await self._json("POST", "/v0/management/faults", msgspec.json.encode(order))

    async def disarm(self) -> str | None:
        """End all that is armed; returns why one had ended itself for its abort condition."""
        view = await self._json("DELETE", "/v0/management/faults")
        ours_s = time.monotonic() - self._armed_at
        for ended in view["ended"]:
            if ended["reason"] in _ABORTS and ended["ago_s"] <= ours_s:
                return f"{ended['provider']}: {ended['detail']}"
        return None

    async def metric(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's samples with these labels; None where it is not there."""
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

        status, body = await self._call("GET", "/metrics")
        if status != 200:
            return None
        values = [
            sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    async def _json(self, method: str, path: str, body: bytes = b"") -> Any:
        status, answer = await self._call(method, path, body)
        if status != 200:
            text = answer[:300].decode(errors="replace")
            raise CannotRun(f"{self.url}{path} answered {status}: {text}")
        return msgspec.json.decode(answer)

    async def _call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        request = UpstreamRequest(method, self.url + path, self._headers, body)
        try:
            response = await self._client.send(request, _CLOCKS)
            try:
                parts = []
                while part := await response.read():
                    parts.append(part)
            finally:
                await response.aclose()
        except UpstreamError as error:
            raise CannotRun(f"{self.url}{path}: {error}") from error
        return response.status, b"".join(parts)
