"""Clients for the way to the providers, and whom they trust."""

from __future__ import annotations

import ssl

from radgateway.config.schema import UpstreamConfig
from radgateway.upstream import Upstream
from radgateway.upstream.connect import connect


def trusting(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS settings that trust the authorities of one file; None for the system's."""
    return ssl.create_default_context(cafile=ca_file) if ca_file is not None else None


def upstream_client(settings: UpstreamConfig, ca_file: str | None) -> Upstream:
    """A client for providers that trust the system's authorities, or those of one file."""
    return connect(
        settings.client,
        max_connections=settings.max_connections,
        keepalive_expiry_s=settings.keepalive_expiry_s,
        ssl_context=trusting(ca_file),
    )
