"""GET /v1/models: what may be asked for, as OpenAI's clients list it."""

from __future__ import annotations

from typing import Any

from radgateway.operations.json_endpoint import JSONEndpoint
from radgateway.operations.query_parameters import Query
from radgateway.routing.models import ModelTable


def model_list(models: ModelTable) -> JSONEndpoint:
    """The names and aliases that are configured; a wildcard has no list of what it matches."""
    listed = [
        {"id": name, "object": "model", "created": 0, "owned_by": "rad"}
        for name in sorted(models.names)
    ]

    async def models_listed(query: Query) -> tuple[int, Any]:
        return 200, {"object": "list", "data": listed}

    return JSONEndpoint(models_listed)
