"""The command as a person runs it: real processes, real signals."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from processes import Process, started

pytestmark = [pytest.mark.servers, pytest.mark.slow]

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


def address(process: Process) -> str:
    """Where it listens, once it says that it has started."""
    url = process.wait_for(r" on (http://\S+)")[1]
    process.wait_for("Application startup complete")
    return url


def test_the_first_run_says_all_that_is_needed(tmp_path: Path) -> None:
    """The address, the key and a curl that works as printed; then SIGTERM ends it with code 0."""
    with started(["-m", "radgateway", "serve", "--port", "0"], tmp_path) as process:
        url = address(process)
        key = process.wait_for(r"^API key: (\S+)$")[1]
        printed = process.output
        assert f"curl {url}{CHAT}" in printed
        body = re.search(r"-d '(.*)'", printed)
        assert body is not None
        answer = httpx.post(
            url + CHAT,
            content=body[1],
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"].startswith("Echo")
        assert httpx.get(url + "/health").json() == {"status": "ok"}
        assert httpx.get(url + "/health/ready").status_code == 200
        assert httpx.get(url + "/metrics").status_code == 200
        assert httpx.post(url + CHAT, json=BODY).status_code == 401
        own = {"x-api-key": key}
        assert httpx.get(url + "/v0/management/usage", headers=own).status_code == 404
        assert process.end() == 0
        logged = [json.loads(line) for line in process.lines if line.startswith("{")]
        requests = [line for line in logged if line["message"] == "radgateway.request"]
        assert {r["fields"]["status"] for r in requests} == {200, 401, 404}
        assert all(line["service"] == "rad-gateway" and line["@timestamp"] for line in logged)
        # Only the banner, which is for the person who starts it, shows the key.
        assert not [line for line in process.lines if line.startswith("{") and key in line]


def test_the_originals_variables_keep_working(tmp_path: Path) -> None:
    """A deployment of the original starts as it is."""
    environ = {"RAD_API_KEYS": "ann:key-a,bob:key-b", "RAD_LISTEN_ADDR": "127.0.0.1:0"}
    with started(["-m", "radgateway", "serve"], tmp_path, environ) as process:
        url = address(process)
        assert "key-a" not in process.output
        for key in ("key-a", "key-b"):
            assert httpx.post(url + CHAT, json=BODY, headers={"x-api-key": key}).status_code == 200
        assert process.end() == 0


SLOW = """
environment: local
keys: [{name: k, secret: key-1}]
admin_keys: [{name: ops, secret: key-admin}]
providers:
  slow: {kind: mock, latency_ms: 500, tokens_per_s: 2.5}
  fast: {kind: mock}
models:
  slow: {candidates: [{provider: slow}]}
  fast: {candidates: [{provider: fast}]}
storage: {usage: "sqlite:///usage.db"}
telemetry: {metrics: true}
"""
HEADERS = {"x-api-key": "key-1"}


def stream(url: str, into: list[str]) -> None:
    """Stream an answer, noting its lines."""
    body = {**BODY, "model": "slow", "stream": True}
    with httpx.stream("POST", url + CHAT, json=body, headers=HEADERS, timeout=20) as answer:
        for line in answer.iter_lines():
            into += [line] if line else []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_in_flight_finish(tmp_path: Path, number: int) -> None:
    """Readiness turns 503, new work is refused, the stream gets its last byte, its row is kept."""
    (tmp_path / "gateway.yaml").write_text(SLOW)
    arguments = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(arguments, tmp_path) as process:
        url = address(process)
        got: list[str] = []
        client = threading.Thread(target=stream, args=(url, got))
        client.start()
        until = time.monotonic() + 10
        while not got and time.monotonic() < until:
            time.sleep(0.02)
        with httpx.Client(base_url=url, headers=HEADERS) as other:
            assert other.get("/health/ready").status_code == 200
            process.process.send_signal(number)
            while other.get("/health/ready").status_code != 503:
                assert time.monotonic() < until
            refused = other.post(CHAT, json={**BODY, "model": "fast"})
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "draining"
            assert refused.headers["retry-after"]
            assert client.is_alive(), "the stream ended before the drain could be seen"
        client.join(15)
        assert got[-1] == "data: [DONE]"
        assert process.process.wait(15) == 0
    with started(arguments, tmp_path) as process:
        url = address(process)
        admin = {"x-api-key": "key-admin"}
        rows = httpx.get(url + "/v0/management/usage", headers=admin).json()["data"]
        kept = [row for row in rows if row["incomingModel"] == "slow"]
        assert [(row["outcome"], row["stream"]) for row in kept] == [("success", True)]
        assert httpx.get(url + "/v0/management/usage", headers=HEADERS).status_code == 403
        assert httpx.post(url + CHAT, json=BODY, headers=admin).status_code == 401
        assert process.end() == 0


def test_a_stream_longer_than_the_drain_does_not_keep_the_process(tmp_path: Path) -> None:
    """The limits of the drain are kept, and its usage row with them."""
    short = SLOW + "server: {drain_timeout_s: 0.5, stream_drain_timeout_s: 0.5}\n"
    (tmp_path / "gateway.yaml").write_text(short.replace("tokens_per_s: 2.5", "tokens_per_s: 0.2"))
    arguments = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(arguments, tmp_path) as process:
        url = address(process)
        got: list[str] = []
        client = threading.Thread(target=interrupted_stream, args=(url, got))
        client.start()
        until = time.monotonic() + 15
        while not got and time.monotonic() < until:
            time.sleep(0.02)
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(12) == 0
        client.join(10)
    with started(arguments, tmp_path) as process:
        url = address(process)
        rows = httpx.get(url + "/v0/management/usage", headers={"x-api-key": "key-admin"}).json()
        assert [row["incomingModel"] for row in rows["data"]] == ["slow"]
        assert process.end() == 0


def interrupted_stream(url: str, into: list[str]) -> None:
    """Stream an answer that the server is expected to cut."""
    with contextlib.suppress(httpx.HTTPError):
        stream(url, into)


@pytest.mark.parametrize(("replicas", "counting"), [(1, 2), (6, 6)])
def test_workers_know_how_many_they_are(tmp_path: Path, replicas: int, counting: int) -> None:
    """Without a shared storage that is said aloud, in the banner and in each worker's log; and it
    is what a limit is divided by where the storage is lost."""
    (tmp_path / "gateway.yaml").write_text(
        "environment: local\n"
        'keys: [{name: k, secret: key-1, limits: ["60/minute"]}]\n'
        "providers: {mock: {kind: mock}}\n"
        "models: {gpt-4o-mini: {candidates: [{provider: mock}]}}\n"
        'storage: {usage: "memory://"}\n'
        f"limits: {{replicas: {replicas}}}\n"
    )
    arguments = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started([*arguments, "--workers", "2"], tmp_path) as process:
        process.wait_for(r" on (http://\S+)")
        process.wait_until_ready(2)
        assert process.end() == 0
    assert f"up to {counting} times what is configured" in process.output
    logged = [json.loads(line) for line in process.lines if line.startswith("{")]
    warned = [r for r in logged if r["message"] == "radgateway.rate_limit.memory_per_replica"]
    assert [(r["level"], r["fields"]["replicas"]) for r in warned] == [("warning", counting)] * 2


def test_several_workers_count_as_one(tmp_path: Path) -> None:
    """Whichever worker is scraped, /metrics shows what all of them did."""
    (tmp_path / "gateway.yaml").write_text(SLOW)
    arguments = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started([*arguments, "--workers", "2"], tmp_path) as process:
        url = process.wait_for(r" on (http://\S+)")[1]
        assert "in each of 2 workers" in process.output
        process.wait_until_ready(2)
        sent = 0
        for _ in range(40):  # each over a connection of its own, so both workers get some
            answer = httpx.post(
                url + CHAT,
                json={**BODY, "model": "fast"},
                headers={**HEADERS, "connection": "close"},
            )
            assert answer.status_code == 200
            sent += 1
        series = r'rad_gateway_requests_total\{[^}]*route="/v1/chat/completions",status="200"\}'
        for _ in range(10):  # whichever worker answers
            counted = re.findall(series + r" (\S+)", httpx.get(url + "/metrics").text)
            assert [float(value) for value in counted] == [sent]
        assert process.end() == 0


def test_check_config_shows_what_would_be_in_force(tmp_path: Path) -> None:
    """Secrets masked; exit 0."""
    (tmp_path / "gateway.yaml").write_text(SLOW)
    with started(["-m", "radgateway", "check-config", "gateway.yaml"], tmp_path) as process:
        assert process.process.wait(20) == 0
        process.wait_for("first_byte_s: 30")
        assert "key-1" not in process.output
        assert "key-admin" not in process.output


def test_a_wrong_configuration_is_told_with_its_lines(tmp_path: Path) -> None:
    """Every error at once, the nearest known key, and exit 2; for serve and check-config alike."""
    wrong = SLOW.replace("latency_ms", "latancy_ms").replace("provider: fast", "provider: gone")
    (tmp_path / "gateway.yaml").write_text(wrong)
    for arguments in (["check-config", "gateway.yaml"], ["serve", "--config", "gateway.yaml"]):
        with started(["-m", "radgateway", *arguments], tmp_path) as process:
            assert process.process.wait(20) == 2
            process.wait_for("latency_ms")
            process.wait_for("gone")
            assert "Traceback" not in process.output


def test_a_port_that_is_taken_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    """Said in a line, with a code that is not 0."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with started(["-m", "radgateway", "serve", "--port", port], tmp_path) as process:
            assert process.process.wait(20) == 1
            process.wait_for("in use")
            assert "Traceback" not in process.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["serve", "--help"],
        ["check-config", "--help"],
        ["chaos", "--help"],
        ["chaos", "run", "--help"],
    ],
)
def test_help_teaches(tmp_path: Path, arguments: list[str]) -> None:
    """Every command explains itself."""
    with started(["-m", "radgateway", *arguments], tmp_path) as process:
        assert process.process.wait(20) == 0
        process.wait_for("usage: radgateway")
