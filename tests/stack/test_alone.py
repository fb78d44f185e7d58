"""The terminal components alone, and a whole gateway, inside an app that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import litestar
import pytest
from fastapi import FastAPI
from hypercorn.middleware import DispatcherMiddleware
from quart import Quart
from serving import Call, provider, response, serving
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.routing import Route as View

from radgateway import (
    Candidate,
    HTTPProvider,
    HTTPXUpstream,
    MockProvider,
    ProviderRouter,
    Route,
    connect,
    create_gateway,
)
from radgateway.asgi import ASGIApp

pytestmark = pytest.mark.servers

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


async def home(request: Any) -> PlainTextResponse:
    """A view of the host's own."""
    return PlainTextResponse("home")


def in_starlette(app: ASGIApp) -> ASGIApp:
    """A host with a view of its own and the component under a prefix."""
    return Starlette(routes=[View("/", home), Mount("/ai", app)])


def bare(app: ASGIApp) -> ASGIApp:
    """A host in plain ASGI that hands on what is below a prefix."""

    async def host(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not scope["path"].startswith("/ai/"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"home"})
            return
        await app({**scope, "root_path": "/ai"}, receive, send)

    return host


def ask(host: ASGIApp, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Serve a host without a lifespan and talk to it."""

    async def run() -> None:
        async with (
            serving(host, lifespan="off") as url,
            httpx.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            assert (await client.get("/")).text == "home"
            await story(client)

    asyncio.run(run())


@pytest.mark.parametrize("host", [bare, in_starlette])
def test_a_router_needs_nothing_else(host: Callable[[ASGIApp], ASGIApp]) -> None:
    """Two providers, one model, no gateway around it: streams and all."""
    router = ProviderRouter(
        {"mock": MockProvider()}, {"m": Route((Candidate("mock", "other"),), aliases=("n",))}
    )

    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.post("/ai" + CHAT, json=BODY)
        assert answer.json()["model"] == "other"
        assert answer.headers["x-radgateway-provider"] == "mock"
        stream = await client.post("/ai" + CHAT, json={**BODY, "model": "n", "stream": True})
        assert stream.text.endswith("data: [DONE]\n\n")
        assert (await client.post("/ai" + CHAT, json={})).status_code == 400

    ask(host(router), story)


@pytest.mark.parametrize("host", [bare, in_starlette])
def test_a_mock_provider_needs_nothing_else(host: Callable[[ASGIApp], ASGIApp]) -> None:
    """An app's own tests can mount it in place of the real API."""

    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.post("/ai" + CHAT, json=BODY)
        assert answer.json()["choices"][0]["message"]["content"] == "Echo: Hello"

    ask(host(MockProvider()), story)


@pytest.mark.parametrize("client_name", ["http1", "httpx"])
@pytest.mark.parametrize("host", [bare, in_starlette])
def test_an_http_provider_needs_nothing_else(
    host: Callable[[ASGIApp], ASGIApp], client_name: Any
) -> None:
    """Mounted by itself it is a reverse proxy that keeps the key, over either client."""

    async def echo(call: Call) -> None:
        assert call.head.startswith(b"POST /v1/chat/completions?x=1 HTTP/1.1\r\n")
        await call.say(response(json.dumps({"got": call.body.decode()}).encode()))

    async def run() -> None:
        async with provider(echo) as upstream:
            client = connect(client_name)
            app = HTTPProvider("p", client, base_url=f"{upstream.url}/v1", api_key=lambda: "sk")
            try:
                async with (
                    serving(host(app), lifespan="off") as url,
                    httpx.AsyncClient(base_url=url, trust_env=False) as caller,
                ):
                    answer = await caller.post(f"/ai{CHAT}?x=1", content=b"as it is")
            finally:
                await client.aclose()
            assert answer.json() == {"got": "as it is"}
            assert b"authorization: bearer sk" in upstream.calls[0].head.lower()

    asyncio.run(run())


def in_fastapi(app: ASGIApp) -> ASGIApp:
    """The same host in FastAPI."""
    fastapi = FastAPI()
    fastapi.get("/", response_class=PlainTextResponse)(lambda: "home")
    fastapi.mount("/ai", app)
    return fastapi


def in_litestar(app: ASGIApp) -> ASGIApp:
    """The same host in Litestar."""

    @litestar.get("/", sync_to_thread=False)
    def view() -> str:
        return "home"

    @litestar.asgi("/ai", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return litestar.Litestar([view, mounted])


def beside_quart(app: ASGIApp) -> ASGIApp:
    """A Quart app and the component under a prefix, as Quart's users mount what is not Quart."""
    quart = Quart("host")

    @quart.get("/")
    async def view() -> str:
        return "home"

    mounted: ASGIApp = DispatcherMiddleware({"/ai": app, "": quart})
    return mounted


@pytest.mark.parametrize("host", [bare, in_starlette, in_fastapi, in_litestar, beside_quart])
def test_a_gateway_needs_no_lifespan_of_its_host(
    host: Callable[[ASGIApp], ASGIApp], tmp_path: Path
) -> None:
    """It starts with its first request, and what runs in its background does run: a row is kept."""
    database = tmp_path / "usage.db"
    gateway = create_gateway(
        {
            "keys": [{"name": "k", "secret": "key-1"}],
            "providers": {"mock": {"kind": "mock"}},
            "models": {"m": {"candidates": [{"provider": "mock"}]}},
            "storage": {"usage": f"sqlite:///{database}"},
        }
    )

    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get("/ai/health/ready")).status_code == 200
        headers = {"x-api-key": "key-1"}
        answer = await client.post("/ai" + CHAT, json=BODY, headers=headers)
        assert answer.json()["choices"][0]["message"]["content"] == "Echo: Hello"
        stream = await client.post("/ai" + CHAT, json={**BODY, "stream": True}, headers=headers)
        assert stream.text.endswith("data: [DONE]\n\n")
        async with asyncio.timeout(5):
            while rows_in(database) != 2:
                await asyncio.sleep(0.02)
        await gateway.aclose()

    ask(host(gateway), story)


def rows_in(database: Path) -> int:
    """How many requests a ledger holds; none while it is being made."""
    with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
        try:
            (count,) = connection.execute("SELECT count(*) FROM radgateway_requests").fetchone()
        except sqlite3.OperationalError:
            return 0
        return int(count)


def test_any_httpx_client_is_an_upstream() -> None:
    """A test, or a proxy setup, brings its own transport."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json={"url": str(request.url)})
    )
    app = HTTPProvider("p", HTTPXUpstream(transport), base_url="https://api.example/v1")

    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.post("/ai" + CHAT, json=BODY)
        assert answer.json() == {"url": "https://api.example/v1/chat/completions"}

    ask(in_starlette(app), story)
