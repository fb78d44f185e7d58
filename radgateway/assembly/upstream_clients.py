"""Clients for the way to the providers."""

from __future__ import annotations

from radgateway.config.schema import UpstreamConfig
from radgateway.upstream import Upstream
from radgateway.upstream.connect import connect, trusting


def upstream_client(settings: UpstreamConfig, ca_file: str | None) -> Upstream:
    """A client for providers that trust the system's authorities, or those of one file."""
    return connect(
        settings.client,
        max_connections=settings.max_connections,
        keepalive_expiry_s=settings.keepalive_expiry_s,
        ssl_context=trusting(ca_file),
    )
