from __future__ import annotations

import asyncio
import json
from typing import Any

from drive import drive, http_scope

from radgateway.inbound.drain import Drain, DrainGuard


def test_new_work_is_refused_and_old_work_ends() -> None:
    """A request under way when the drain begins is answered; the next one is sent elsewhere."""

    async def story() -> None:
        gate = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        drain = Drain()
        app = DrainGuard(slow, drain)
        running = asyncio.create_task(drive(app, http_scope("/")))
        await asyncio.sleep(0)
        assert drain.in_flight == 1
        drain.begin()
        refused = await drive(app, http_scope("/"))
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["code"] == "draining"
        assert refused.header("retry-after") == "5"
        assert refused.header("connection") == "close"
        assert not await drain.wait_idle(0.01)
        idle = asyncio.create_task(drain.wait_idle(5))
        await asyncio.sleep(0)
        gate.set()
        assert (await running).body == b"done"
        assert await idle
        assert drain.in_flight == 0
        assert await drain.wait_idle(0)

    asyncio.run(story())


def test_a_request_that_fails_or_is_cancelled_is_counted_out() -> None:
    """A drain must not wait for work that is long gone."""

    async def story() -> None:
        async def broken(scope: Any, receive: Any, send: Any) -> None:
            raise RuntimeError("a bug")

        async def stuck(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        drain = Drain()
        answer = await drive(DrainGuard(broken, drain), http_scope("/"), raises=True)
        assert isinstance(answer.error, RuntimeError)
        running = asyncio.create_task(drive(DrainGuard(stuck, drain), http_scope("/")))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert drain.in_flight == 0

    asyncio.run(story())
