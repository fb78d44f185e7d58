"""What looks after secrets, from a configuration."""

from __future__ import annotations

from collections.abc import Callable

from radgateway.config.schema import GatewayConfig
from radgateway.reload.reloader import Reloader
from radgateway.secrets.refresher import SecretsRefresher
from radgateway.telemetry.instruments import Instruments


def secrets_refresher(
    config: GatewayConfig, instruments: Instruments, reloader: Callable[[], Reloader]
) -> SecretsRefresher:
    """Looks after those of the configuration in force; `reloader` puts changes in force."""
    return SecretsRefresher(
        config,
        lambda: reloader().current.config,
        lambda change: reloader().revise(change, "secrets"),
        on_outcome=lambda outcome: instruments.secrets_refreshes(outcome).inc(),
    )
