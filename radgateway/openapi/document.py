"""The document as a whole, and GET /v0/management/openapi.json, which serves it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from radgateway import __version__
from radgateway.asgi import Receive, Scope, Send
from radgateway.openapi.error_forms import HEADERS, SCHEMAS
from radgateway.openapi.paths import paths
from radgateway.openapi.shown_forms import schemas
from radgateway.operations.json_endpoint import JSONEndpoint
from radgateway.operations.query_parameters import Query, check_known

_DESCRIPTION: Final = """\
What the gateway itself answers: its management API, its health, and its own errors on the data
plane. What providers answer passes as it came, and is described by their own documents.

An error's `x-radgateway-error-source` says whose it is. `upstream` errors keep the body their
provider gave them; those of the `gateway` have the forms here. Fields may be added to any answer.
HEAD is answered wherever GET is; any other method than those here with 405 `method_not_allowed` and
`Allow`, any other path with 404 `unknown_path`. While it drains, answers have
`Connection: close`."""


def _header(name: str, description: str) -> dict[str, Any]:
    return {"type": "apiKey", "in": "header", "name": name, "description": description}


_CALLER: Final = "The key of a caller."
_ADMIN: Final = "An administrator's key. It does not open the data plane, nor a caller's this API."
_SECURITY: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": f"{_CALLER} Or a JWT."},
    "apiKey": _header("x-api-key", _CALLER),
    "googleApiKey": _header("x-goog-api-key", _CALLER),
    "keyParameter": {"type": "apiKey", "in": "query", "name": "key", "description": _CALLER},
    "adminBearer": {"type": "http", "scheme": "bearer", "description": _ADMIN},
    "adminApiKey": _header("x-api-key", _ADMIN),
    "adminGoogleApiKey": _header("x-goog-api-key", _ADMIN),
}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document. It is shared: don't change it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "radgateway",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [
            {"name": "data plane", "description": "What callers ask for models."},
            {"name": "management", "description": "Behind an admin key, and absent without one."},
            {"name": "health", "description": "For who runs it, without a key."},
        ],
        "paths": paths(),
        "components": {
            "schemas": SCHEMAS | schemas(),
            "headers": HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


async def openapi_endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the document, whose paths are below where the gateway is mounted."""

    async def show(query: Query) -> tuple[int, Any]:
        check_known(query, ())
        root = scope.get("root_path", "").rstrip("/")
        return 200, document() | {"servers": [{"url": root or "/"}]}

    await JSONEndpoint(show)(scope, receive, send)
