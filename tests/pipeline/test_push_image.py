"""`.ci/push-image` with the real skopeo: what it says is the digest of what is there."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from ops_tools import ops_tool
from pipeline.scripts import Programs, run

pytestmark = pytest.mark.ops


def archive(file: Path) -> None:
    """An image of one empty layer, as `docker save` writes it."""
    layer = io.BytesIO()
    tarfile.open(fileobj=layer, mode="w").close()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"],
        },
    }
    manifest = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"]}]
    parts = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(file, "w") as opened:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))


def test_the_digest_is_of_what_arrived(tmp_path: Path, programs: Programs) -> None:
    """It is what is signed, deployed and kept from then on."""
    assert ops_tool("skopeo")
    archive(tmp_path / "image.tar")
    (tmp_path / "scan.json").write_text("{}")
    layout = tmp_path / "Layout"  # a folder keeps its name as it is
    done = run(
        "push-image", "--to", f"oci:{layout}:1", "--image-dir", tmp_path, env=programs.environ
    )
    assert done.returncode == 0, done.stderr
    (arrived,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert done.stdout == f"oci:{layout}@{arrived['digest']}\n"
    assert (tmp_path / "digest").read_text() == arrived["digest"]
