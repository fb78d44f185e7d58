"""The project's own views, sync and async. Nothing here knows about a gateway."""

from __future__ import annotations

import json

from django.http import Http404, HttpRequest, JsonResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

ARTICLES = {
    1: {"title": "How do I reset my password?", "votes": 0},
    2: {"title": "Where is my invoice?", "votes": 0},
}


@require_GET
def index(request: HttpRequest) -> JsonResponse:
    """All articles, each with its address."""
    found = [
        {"title": article["title"], "url": reverse("article", args=[number])}
        for number, article in ARTICLES.items()
    ]
    return JsonResponse({"articles": found})


@require_GET
async def article(request: HttpRequest, number: int) -> JsonResponse:
    """One article."""
    if number not in ARTICLES:
        raise Http404
    return JsonResponse(ARTICLES[number])


@csrf_exempt
@require_POST
def vote(request: HttpRequest, number: int) -> JsonResponse:
    """Say whether an article helped."""
    if number not in ARTICLES:
        raise Http404
    ARTICLES[number]["votes"] += 1 if json.loads(request.body)["helped"] else -1
    return JsonResponse(ARTICLES[number], status=201)
