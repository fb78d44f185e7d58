"""The configuration of a ledger, for commands that see to it without a gateway."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from radgateway.config import GatewayConfig, load_config
from radgateway.config.references import resolve
from radgateway.secrets.at_start import SecretsAtStart


def config_of_ledger(file: Path | None) -> GatewayConfig:
    """A file's configuration, of which no secret is read but the ledger's address.

    Without a file it is that of `RADGATEWAY_CONFIG`, else the embedded one. Raises `ValueError`.
    """
    named = os.environ.get("RADGATEWAY_CONFIG")
    source = file if file is not None else Path(named) if named else None
    config = load_config(source, resolve=False)
    faults: list[str] = []
    at_start = SecretsAtStart(config.storage.usage, config.secrets.infisical, os.environ)
    usage = resolve(config.storage.usage, at_start.read, lambda path, fault: faults.append(fault))
    if faults:
        raise ValueError(f"storage.usage: {faults[0]}")
    return replace(config, storage=replace(config.storage, usage=usage))
