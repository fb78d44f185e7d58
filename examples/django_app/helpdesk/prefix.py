"""Mounting an ASGI app beside Django, which a URLconf can't."""

from __future__ import annotations

from typing import Any

from radgateway.asgi import ASGIApp, route_path


class Prefix:
    """Gives requests below `prefix` to `app`, and everything else to `beside`."""

    def __init__(self, prefix: str, app: ASGIApp, *, beside: ASGIApp) -> None:
        self.prefix = prefix
        self.app = app
        self.beside = beside

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not self._leads_here(route_path(scope)):
            await self.beside(scope, receive, send)
            return
        # As Starlette mounts: the path stays whole, and the part that led here is in root_path.
        root_path = scope.get("root_path", "") + self.prefix
        await self.app({**scope, "root_path": root_path}, receive, send)

    def _leads_here(self, path: str) -> bool:
        return path == self.prefix or path.startswith(f"{self.prefix}/")
