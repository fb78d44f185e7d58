"""The project's own paths. A URLconf can't mount an ASGI app; /ai is in asgi.py."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("articles/", include("articles.urls"))]
