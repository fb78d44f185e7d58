"""The project to deploy: the gateway below /ai, and a component around the project's own views."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application

from helpdesk.prefix import Prefix
from radgateway import RateLimiter, create_gateway

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helpdesk.settings")

# First: it sets the project up, which may read settings that the rest needs.
project = get_asgi_application()
gateway = create_gateway(settings.AI_GATEWAY)
views = RateLimiter(project, limits=settings.OWN_VIEWS_LIMIT)
requests = Prefix("/ai", gateway, beside=views)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Give the server's lifespan to the gateway; Django has none and raises at it."""
    app = gateway if scope["type"] == "lifespan" else requests
    await app(scope, receive, send)
