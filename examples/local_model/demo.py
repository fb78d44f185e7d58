"""Talks to the model through the gateway with the official openai client, and breaks things.

Runs beside run.py. With --kill it kills the model's server: while it speaks, and while it still
reads the prompt. The client's own retries are off, so that all that is seen is the gateway's.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openai

RUNNING = Path(__file__).resolve().parent / ".venv" / "run" / "running.json"
QUESTION = "Why is the sky blue?"
SHOWN_METRICS = (
    "rad_gateway_provider_requests_total{",
    "rad_gateway_failover_attempts_total{",
    "rad_gateway_tokens_consumed_total{",
    "rad_gateway_circuit_breaker_open{",
)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kill", action="store_true", help="kill the model server, and watch")
    options = parser.parse_args()
    title("A completion, whole")
    ask_whole(QUESTION)
    title("A completion, streamed")
    ask(QUESTION)
    if options.kill:
        title("The model server is killed while it speaks")
        dead = running()["model_pid"]
        ask("Tell me a long story about a lighthouse.", kill_after_chunks=20)
        title("The next requests, while it is gone")
        while_it_is_gone()
        title("It is back, and the breaker lets a probe through")
        wait_until_back(dead)
        ask(QUESTION)
        title("The model server is killed while it still reads a long prompt")
        ask("Summarise: " + "The quick brown fox jumps over the lazy dog. " * 130, kill_after_s=0.5)
    title("What the gateway recorded")
    time.sleep(1)  # usage rows are written in batches, some 0.2 s apart
    show_usage()
    show_metrics()


def running() -> dict[str, Any]:
    """Addresses and keys of what run.py started."""
    try:
        found: dict[str, Any] = json.loads(RUNNING.read_text())
    except FileNotFoundError:
        raise SystemExit("start run.py first, and leave it running") from None
    return found


def client() -> openai.OpenAI:
    """The official client, with nothing changed but where it calls."""
    at = running()
    return openai.OpenAI(base_url=f"{at['url']}/v1", api_key=at["key"], max_retries=0, timeout=60)


def ask_whole(question: str) -> None:
    """Get one answer in one piece, which says what it cost."""
    print(f"> {question}")
    api = client()  # made before the clock starts: that takes longer than the mock's whole answer
    began = time.monotonic()
    response = api.chat.completions.with_raw_response.create(
        model="smollm2",
        messages=[{"role": "user", "content": question}],
        max_tokens=40,
        temperature=0,
    )
    completion = response.parse()
    took_s = time.monotonic() - began
    print(f"  text           {completion.choices[0].message.content!r}")
    if completion.usage is not None:
        usage = completion.usage
        print(f"  usage          {usage.prompt_tokens} in, {usage.completion_tokens} out")
    print(f"  all            {took_s * 1000:.0f} ms")
    show_headers(response.headers)


def ask(
    question: str, *, kill_after_chunks: int | None = None, kill_after_s: float | None = None
) -> Mapping[str, str]:
    """Stream one answer, kill the model server on the way if told to, and print what came."""
    at = running()
    shown = question if len(question) < 80 else question[:40] + f"... ({len(question)} characters)"
    print(f"> {shown}")
    api = client()
    if kill_after_s is not None:
        threading.Timer(kill_after_s, kill, [at["model_pid"]]).start()
    began = time.monotonic()
    response = api.chat.completions.with_raw_response.create(
        model="smollm2",
        messages=[{"role": "user", "content": question}],
        max_tokens=120,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, pieces, usage, finish, first_s = "", 0, None, None, None
    try:
        for chunk in response.parse():
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                if choice.delta.content:
                    first_s = first_s or time.monotonic() - began
                    text += choice.delta.content
                    pieces += 1
            if pieces == kill_after_chunks:
                kill(at["model_pid"])
                kill_after_chunks = None
    except openai.APIError as error:
        print(f"  {type(error).__name__}: {error.message}")
        print(f"  body           {json.dumps(error.body)}")
    took_s = time.monotonic() - began
    print(f"  text           {text[:70]!r}{'...' if len(text) > 70 else ''}")
    print(f"  pieces         {pieces}, finish_reason {finish}")
    if usage is not None:
        print(f"  usage          {usage.prompt_tokens} in, {usage.completion_tokens} out")
    if first_s is not None:
        print(f"  first piece    {first_s * 1000:.0f} ms, all {took_s * 1000:.0f} ms")
    show_headers(response.headers)
    return response.headers


def show_headers(headers: Mapping[str, str]) -> None:
    """What the gateway says of how the answer came about."""
    for name in ("x-radgateway-provider", "x-radgateway-attempts", "x-request-id"):
        print(f"  {name:<22} {headers.get(name)}")


def kill(pid: int | None) -> None:
    """End the model server without a chance to say goodbye."""
    if pid is None:
        print("  (there is no model server to kill now; try again when run.py has restarted it)")
        return
    os.kill(pid, signal.SIGKILL)
    print(f"  (killed the model server, pid {pid})")


def while_it_is_gone() -> None:
    """Ask until the breaker has opened: then one attempt is enough, and it is the mock's."""
    for _ in range(5):
        headers = ask("Are you there?")
        if headers.get("x-radgateway-attempts") == "1":
            return


def wait_until_back(dead: int) -> None:
    """Until run.py has started the model server anew, which takes longer than the breaker rests."""
    deadline = time.monotonic() + 120
    while running()["model_pid"] in (None, dead):
        if time.monotonic() > deadline:
            raise SystemExit("the model server did not come back; is run.py still running?")
        time.sleep(0.5)


def show_usage() -> None:
    """The latest usage rows, oldest first."""
    at = running()
    request = urllib.request.Request(
        f"{at['url']}/v0/management/usage?limit=8", headers={"x-api-key": at["admin_key"]}
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        rows = json.load(response)["data"]
    for row in reversed(rows):
        tried = ", ".join(f"{a['provider']}: {a['error'] or a['status']}" for a in row["attempts"])
        print(
            f"  {row['outcome']:<12} {row['provider']:<6} interrupted={row['interrupted']} "
            f"in={row['usage']['prompt_tokens']} out={row['usage']['completion_tokens']} "
            f"({row['usageSource']}) ttft={row['ttftMs']:.0f} ms  [{tried}]"
        )


def show_metrics() -> None:
    """The metrics that tell the same story."""
    with urllib.request.urlopen(f"{running()['url']}/metrics", timeout=5) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(SHOWN_METRICS):
                print(f"  {line}")


def title(text: str) -> None:
    """A heading in the output."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    main()
