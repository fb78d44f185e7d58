"""An image that was built, as the tests look at it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Image:
    """What the build left in a folder."""

    folder: Path

    @property
    def root(self) -> Path:
        """Its files, as a root to run in; shared, so never to be written to."""
        return self.folder / "root"

    @property
    def said(self) -> str:
        """What the build and the structure test printed."""
        return (self.folder / "said").read_text()

    @property
    def sbom(self) -> dict[str, Any]:
        """The bill of materials."""
        read: dict[str, Any] = json.loads((self.folder / "sbom.cdx.json").read_text())
        return read

    @property
    def config(self) -> dict[str, Any]:
        """How it is to be run."""
        read: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return read
