"""An image that was built, as the tests look at it."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Image:
    """A built image: its archive, bill of materials, configuration and files."""

    folder: Path
    said: str
    """What the build and the structure test printed."""
    root: Path
    """Its files, as a root to run in; shared, so never to be written to."""

    @property
    def sbom(self) -> dict[str, Any]:
        """The bill of materials."""
        read: dict[str, Any] = json.loads((self.folder / "sbom.cdx.json").read_text())
        return read

    @property
    def config(self) -> dict[str, Any]:
        """The configuration in Docker's form: OCI's has no health check."""
        with tarfile.open(self.folder / "image.tar") as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            (image,) = json.load(manifest)
            config = archive.extractfile(image["Config"])
            assert config is not None
            read: dict[str, Any] = json.load(config)["config"]
        return read
