"""What the examples' tests share: a host as a real process, and what a gateway inside it owes.

The checks are the same for every host, since being mounted must make no difference.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai

EXAMPLES = Path(__file__).parents[1] / "examples"
KEY = "a-key-for-the-tests"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}
START_S = 30.0
STOP_S = 15.0
ROW_S = 2.0
"""Within which a request's usage row is to be seen."""

_SERVES = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
_OURS = (
    "RADGATEWAY_",
    "RAD_",
    "OPENAI_",
    "ANTHROPIC_",
    "GEMINI_",
    "OLLAMA_",
    "DJANGO_",
    "UVICORN_",
)


class Host:
    """A running example: where it listens, and what it leaves behind."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, database: Path) -> None:
        self.process = process
        self.output = output
        self.database = database
        self.base = self._address()
        self.client = httpx.Client(base_url=self.base, timeout=10, trust_env=False)

    def _address(self) -> str:
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            found = _SERVES.search(self.output.read_text())
            if found:
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"the example does not start:\n{self.output.read_text()}")

    def row(self, request_id: str, within_s: float = ROW_S) -> dict[str, Any]:
        """The usage row of a request, as soon as there is one."""
        until = time.monotonic() + within_s
        while True:
            found = self._rows(request_id)
            if found:
                assert len(found) == 1
                return found[0]
            assert time.monotonic() < until, f"no row in {within_s} s:\n{self.output.read_text()}"
            time.sleep(0.02)

    def _rows(self, request_id: str) -> list[dict[str, Any]]:
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(self.database, timeout=5)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                found = connection.execute(
                    "SELECT * FROM radgateway_requests WHERE request_id = ?", (request_id,)
                )
                return [dict(row) for row in found]
            except sqlite3.OperationalError:
                return []  # its tables are being made

    def stop(self) -> str:
        """End it as a supervisor does; all it has printed."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> str:
        """All it has printed, once it has ended; that must be in good order."""
        self.client.close()
        code = self.process.wait(STOP_S)
        said = self.output.read_text()
        # uvicorn raises the signal again once it has shut down, so that is how it ends.
        assert code in (0, -signal.SIGTERM), said
        assert "Finished server process" in said
        assert "Traceback" not in said, said
        assert "ERROR" not in said, said
        return said


@contextmanager
def running(
    example: str, app: str, folder: Path, *options: str, environ: Mapping[str, str]
) -> Iterator[Host]:
    """An example served by uvicorn on a free port, its usage in `folder`."""
    output, database = folder / "output.txt", folder / "usage.db"
    variables = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
    variables |= {"RADGATEWAY_STORAGE__USAGE": f"sqlite:///{database}", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(EXAMPLES / example)]
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0", *options],
            cwd=folder,
            env={**variables, **environ},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        host = Host(process, output, database)
        try:
            yield host
            if process.poll() is None:
                host.stop()
        finally:
            host.client.close()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(STOP_S)


def chat(words: str, *, stream: bool = False) -> dict[str, Any]:
    """The body of a chat; the mock says the words again."""
    message = {"role": "user", "content": words}
    return {"model": "gpt-4o-mini", "messages": [message], "stream": stream}


def named(request_id: str) -> dict[str, str]:
    """The headers of an authorized request with this id."""
    return {**AUTHORIZED, "x-request-id": request_id}


def check_paths_below_the_prefix(host: Host) -> None:
    """Models, health, a chat and a message are served below /ai and nowhere else."""
    models = host.client.get("/ai/v1/models", headers=AUTHORIZED)
    assert [model["id"] for model in models.json()["data"]] == ["claude-3-5-sonnet", "gpt-4o-mini"]
    assert host.client.get("/ai/health").json() == {"status": "ok"}
    assert host.client.get("/ai/health/ready").status_code == 200

    answer = host.client.post("/ai/v1/chat/completions", headers=AUTHORIZED, json=chat("hi there"))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Echo: hi there"
    assert answer.headers["x-radgateway-provider"] == "mock"
    message = {**chat("hi there"), "model": "claude-3-5-sonnet", "max_tokens": 9}
    answer = host.client.post("/ai/v1/messages", headers={"x-api-key": KEY}, json=message)
    assert answer.json()["type"] == "message"

    for elsewhere in ("/v1/chat/completions", "/ai2/v1/chat/completions"):
        answer = host.client.post(elsewhere, headers=AUTHORIZED, json=chat("hi"))
        assert answer.status_code == 404
        assert "x-radgateway-error-source" not in answer.headers


def check_official_client(host: Host, prefix: str = "/ai/v1") -> None:
    """The official client needs the prefix in its base URL and nothing else."""
    with openai.OpenAI(
        api_key=KEY, base_url=f"{host.base}{prefix}", max_retries=0, timeout=10
    ) as client:
        create: Any = client.chat.completions.create
        whole = create(model="gpt-4o-mini", messages=chat("hello")["messages"])
        assert whole.choices[0].message.content == "Echo: hello"
        stream = create(model="gpt-4o-mini", messages=chat("hello")["messages"], stream=True)
        deltas = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(deltas) == "Echo: hello"


def check_dialects_of_errors(host: Host) -> None:
    """An error under the prefix is worded as the vendor whose path it is words it."""
    post = host.client.post
    answer = post("/ai/v1/chat/completions", json=chat("hi"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")
    assert answer.headers["x-radgateway-error-source"] == "gateway"
    answer = post("/ai/v1/chat/completions", json=chat("hi"), headers={"x-api-key": "wrong"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")

    anthropic = post("/ai/v1/messages", json=chat("hi"))
    assert anthropic.status_code == 401
    assert anthropic.json()["type"] == "error"
    assert anthropic.json()["error"]["type"] == "authentication_error"
    gemini = post("/ai/v1beta/models/none:generateContent", json={}, headers=AUTHORIZED)
    assert gemini.status_code == 404
    assert gemini.json()["error"]["status"] == "NOT_FOUND"

    unknown = {**chat("hi"), "model": "none"}
    answer = post("/ai/v1/chat/completions", json=unknown, headers=AUTHORIZED)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")
    answer = post("/ai/v1/chat/completions", content=b"{", headers=AUTHORIZED)
    assert answer.status_code == 400
    answer = post("/ai/v1/nothing", json={}, headers=AUTHORIZED)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_path")


def check_usage_row(host: Host) -> None:
    """A request's row is in the ledger within two seconds of its end."""
    request_id = uuid.uuid4().hex
    answer = host.client.post(
        "/ai/v1/chat/completions", headers=named(request_id), json=chat("what is this worth")
    )
    assert answer.headers["x-request-id"] == request_id
    row = host.row(request_id)
    assert (row["outcome"], row["status"], row["stream"]) == ("success", 200, 0)
    assert (row["route"], row["provider"]) == ("/v1/chat/completions", "mock")
    assert row["output_tokens"] == answer.json()["usage"]["completion_tokens"]


def check_streaming(host: Host) -> None:
    """Words come through the host as they are said, not when all has been said."""
    request_id = uuid.uuid4().hex
    words = "one two three four five six seven eight nine ten"
    times, text, last = [], "", ""
    with host.client.stream(
        "POST",
        "/ai/v1/chat/completions",
        headers=named(request_id),
        json=chat(words, stream=True),
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            last = line or last
            said = content_of(line)
            if said:
                times.append(time.monotonic())
                text += said
    assert (text, last) == (f"Echo: {words}", "data: [DONE]")
    # The mock takes half a second from the first to the last; gathered, they would come at once.
    assert times[-1] - times[0] > 0.3
    row = host.row(request_id)
    assert (row["outcome"], row["stream"]) == ("success", 1)
    assert row["ttft_ms"] < row["duration_ms"] - 300


def check_disconnect_mid_stream(host: Host) -> None:
    """A client that leaves in the middle of a stream ends the work in the gateway at once."""
    request_id = uuid.uuid4().hex
    long = chat("word " * 2000, stream=True)
    with host.client.stream(
        "POST", "/ai/v1/chat/completions", headers=named(request_id), json=long
    ) as response:
        next(line for line in response.iter_lines() if content_of(line))
    row = host.row(request_id, within_s=ROW_S + 1)
    assert row["outcome"] == "client_disconnected"
    assert row["duration_ms"] < 5000  # to the end it would be 100 s


def check_disconnect_before_the_answer(host: Host) -> None:
    """So does one that leaves while it waits for an answer's first byte."""
    request_id = uuid.uuid4().hex
    try:
        host.client.post(
            "/ai/v1/chat/completions",
            headers=named(request_id),
            json=chat("word " * 2000),
            timeout=0.5,
        )
    except httpx.ReadTimeout:
        pass
    else:
        raise AssertionError("the mock was to take 100 s")
    row = host.row(request_id, within_s=ROW_S + 1)
    assert row["outcome"] == "client_disconnected"
    assert row["duration_ms"] < 5000


def check_a_stream_outlives_the_signal(host: Host) -> str:
    """SIGTERM lets a stream under way end whole, and its row is written; all the host printed."""
    request_id = uuid.uuid4().hex
    with host.client.stream(
        "POST",
        "/ai/v1/chat/completions",
        headers=named(request_id),
        json=chat("these are the last words before it all ends", stream=True),
    ) as response:
        lines = response.iter_lines()
        next(line for line in lines if content_of(line))
        host.process.send_signal(signal.SIGTERM)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    said = host.ended()
    assert host.row(request_id, within_s=0.0)["outcome"] == "success"
    return said


def check_limit_of_own_views(host: Host, path: str, limit: int) -> None:
    """The views are refused beyond the limit, and say so before; the gateway goes on."""
    for left in reversed(range(limit)):
        answer = host.client.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == str(limit)
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        # Between the two, a call that must not count.
        assert host.client.get("/ai/health").status_code == 200
    refused = host.client.get(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"

    answer = host.client.post("/ai/v1/chat/completions", headers=AUTHORIZED, json=chat("still?"))
    assert answer.status_code == 200
    # The gateway's own limit of the key, not the views'.
    assert answer.headers["x-ratelimit-limit-requests"] == "600"
    assert host.client.get(path).status_code == 429


def content_of(line: str) -> str:
    """The words in one line of a chat's stream."""
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line[6:])["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""
