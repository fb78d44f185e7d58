"""The overlays' configuration in a real gateway: it starts, its probes answer, it drains."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import pytest
from kubernetes.rendering import ENVIRONMENTS, config_text, container
from processes import LIMIT_S, started

pytestmark = pytest.mark.ops

ELSEWHERE = {
    "RADGATEWAY_STORAGE__LIMITS": "memory://",
    "RADGATEWAY_STORAGE__BREAKER_HINTS": "false",
    "RADGATEWAY_TELEMETRY__TRACING__ENABLED": "false",
    "RADGATEWAY_SERVER__HOST": "127.0.0.1",
}
"""What is another service's, and the address: nothing here listens for others."""
SECRETS = "/run/secrets/radgateway"


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_the_container_serves_what_is_probed(overlay: str, tmp_path: Path) -> None:
    """With the pod's arguments and its secrets as files; SIGTERM ends it well."""
    text = config_text(overlay)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in re.findall(rf"{SECRETS}/(\w+)", text):
        (secrets / name).write_text(f"secret-{name}-of-a-test")
    (secrets / "database_url").write_text(f"sqlite:///{tmp_path / 'usage.db'}")
    file = tmp_path / "gateway.yaml"
    text = text.replace(SECRETS, str(secrets)).replace("/data/", f"{tmp_path}/")
    file.write_text(text)
    arguments = ["-m", "radgateway", *container(overlay)["args"], "--port", "0"]
    arguments[arguments.index("--config") + 1] = str(file)
    with started(arguments, tmp_path, ELSEWHERE) as process:
        url = process.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = container(overlay)[probe]["httpGet"]["path"]
            assert httpx.get(url + path).status_code == 200, probe
        metrics = httpx.get(f"{url}/metrics")
        assert metrics.status_code == 200
        assert "rad_gateway_active_connections" in metrics.text
        key = (secrets / "client_key").read_text()
        models = httpx.get(f"{url}/v1/models", headers={"x-api-key": key})
        assert [each["id"] for each in models.json()["data"]] == ["assistant"]
        assert httpx.get(f"{url}/v1/models").status_code == 401
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(LIMIT_S) == 0
        assert key not in process.output
