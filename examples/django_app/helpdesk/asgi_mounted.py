"""The least that works: Django as it was, and the gateway for what is below /ai.

A server's lifespan goes to Django, which serves none; the gateway starts with its first request.
"""

from __future__ import annotations

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

from helpdesk.prefix import Prefix
from radgateway import create_gateway

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helpdesk.settings")

project = get_asgi_application()
application = Prefix("/ai", create_gateway(settings.AI_GATEWAY), beside=project)
