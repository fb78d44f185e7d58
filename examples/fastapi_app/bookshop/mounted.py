"""The least that works: the app as it was, and one line.

The app keeps its own lifespan and does not run the gateway's, which starts with its first request.
"""

from __future__ import annotations

from fastapi import FastAPI

from bookshop.gateway_config import CONFIG
from bookshop.shop import open_shop, views
from radgateway import create_gateway

app = FastAPI(title="Bookshop", lifespan=open_shop)
app.include_router(views)
app.mount("/ai", create_gateway(CONFIG))
