"""The app to deploy: the gateway joins the app's lifespan, a component guards the app's own views.

A framework runs no lifespan of what is mounted in it, so the app's own has to.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from bookshop.gateway_config import CONFIG
from bookshop.shop import open_shop, views
from radgateway import RateLimiter, create_gateway
from radgateway.asgi import Scope, route_path
from radgateway.inbound.rate_limit import client_address

gateway = create_gateway(CONFIG)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The shop's and the gateway's. An app with none takes `gateway.lifespan` as it is."""
    async with open_shop(app), gateway.lifespan(app):
        yield


LIMIT = os.environ.get("BOOKSHOP_LIMIT", "30/minute")


def caller(scope: Scope) -> str | None:
    """Who a request is counted for: the address it comes from.

    Nobody for what is below /ai: the gateway counts by API key itself.
    """
    return None if route_path(scope).startswith("/ai/") else client_address(scope)


app = FastAPI(title="Bookshop", lifespan=lifespan)
app.include_router(views)
app.mount("/ai", gateway)
app.add_middleware(RateLimiter, limits=LIMIT, key=caller)
