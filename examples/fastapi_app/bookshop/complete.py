"""The app to deploy: the gateway joins the app's lifespan, a component guards the app's own views.

A framework runs no lifespan of what is mounted in it, so the app's own has to.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from limits import RateLimitItem, parse_many

from bookshop.gateway_config import CONFIG
from bookshop.shop import open_shop, views
from radgateway import RateLimiter, create_gateway
from radgateway.asgi import route_path
from radgateway.inbound.rate_limit import client_address

gateway = create_gateway(CONFIG)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The shop's and the gateway's. An app with none takes `gateway.lifespan` as it is."""
    async with open_shop(app), gateway.lifespan(app):
        yield


LIMITS = tuple(parse_many(os.environ.get("BOOKSHOP_LIMIT", "30/minute")))
THE_GATEWAY = "the gateway"


def caller(scope: dict[str, Any]) -> str:
    """Who a request is counted for: the address it comes from, but what is below /ai as one."""
    below = route_path(scope).startswith("/ai/")
    return THE_GATEWAY if below else client_address(scope)


def limits_of(name: str) -> tuple[RateLimitItem, ...]:
    """The shop's limits. The gateway has none here: it counts by API key itself."""
    return () if name == THE_GATEWAY else LIMITS


app = FastAPI(title="Bookshop", lifespan=lifespan)
app.include_router(views)
app.mount("/ai", gateway)
app.add_middleware(RateLimiter, key=caller, limits_of=limits_of)
