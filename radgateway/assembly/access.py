"""Who may call: keys and tokens, from a configuration."""

from __future__ import annotations

from radgateway.assembly.upstream_clients import upstream_client
from radgateway.config.schema import GatewayConfig
from radgateway.exchange import Principal
from radgateway.inbound.auth import ApiKeys
from radgateway.token_auth import TokenAuth


def caller_keys(config: GatewayConfig) -> ApiKeys:
    """The keys of the data plane; an admin's is none of them."""
    secrets = (key.secret.reveal() for key in config.keys)
    return ApiKeys(zip(callers(config), secrets, strict=True))


def callers(config: GatewayConfig) -> list[Principal]:
    """Whose keys those are."""
    return [Principal(key.name, priority=key.priority) for key in config.keys]


def admin_keys(config: GatewayConfig) -> ApiKeys:
    """The keys the management routes know. Callers' are among them, to be told apart: 403."""
    return ApiKeys(
        [(Principal(key.name), key.secret.reveal()) for key in config.keys]
        + [(Principal(key.name, admin=True), key.secret.reveal()) for key in config.admin_keys]
    )


def token_auth(config: GatewayConfig) -> TokenAuth | None:
    """Who judges tokens, where any are taken."""
    if config.jwt is None:
        return None
    fetches = config.jwt.jwks_url is not None
    client = upstream_client(config.upstream, config.jwt.ca_file) if fetches else None
    return TokenAuth(config.jwt, client)
