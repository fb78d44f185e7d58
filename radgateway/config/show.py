"""The effective configuration as YAML, for `check-config`: everything in force, no secret in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

from radgateway.config.schema import GatewayConfig
from radgateway.config.secrets import MASK, Dsn, Secret


def effective(config: GatewayConfig) -> str:
    """The whole configuration as YAML that can be read again.

    A secret is shown as the reference it was read from, else as `***`; an address without its
    user info. Needs PyYAML.
    """
    import yaml  # noqa: PLC0415 - an extra, and this is for the command line

    class Dumper(yaml.SafeDumper):
        """Indents lists, as people write them, and has no aliases."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def exact(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
        text = format(value, "f")
        kind = "float" if "." in text else "int"
        return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", text)

    Dumper.add_representer(Decimal, exact)
    text: str = yaml.dump(
        plain(config), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text


def plain(value: Any) -> Any:
    """The same as mappings, lists and scalars, secrets masked: for printing, YAML or JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return _section(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return _scalar(value)


def _section(value: Any) -> dict[str, Any]:
    shown = {}
    own = getattr(value, "kind", None)
    for field in fields(value):
        item = getattr(value, field.name)
        if field.metadata.get("derived") or field.metadata.get("kind", own) != own:
            continue  # no key, or one of another kind of provider
        if item is not None or field.default is not None:
            shown[field.name] = plain(item)
    return shown


def _scalar(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reference or MASK
    if isinstance(value, Dsn):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
