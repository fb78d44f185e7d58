"""The image, built once for all tests and workers, and its files unpacked."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image.built_image import Image
from ops_tools import ROOT, run_ops

BUILD_S = 400.0


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Image:
    """`.ci/image` over this tree, in a storage of its own."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "image"
    with (shared / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "root").exists():
            _build(folder, shared)
    return Image(folder)


def _build(folder: Path, shared: Path) -> None:
    storage = shared / "containers.conf"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{shared}/layers"\nrunroot = "{shared}/run"\n'
    )
    environ = {
        **os.environ,
        "CONTAINERS_STORAGE_CONF": str(storage),
        "BUILDAH_ISOLATION": "chroot",
        "STORAGE_DRIVER": "vfs",
    }
    name = "localhost/radgateway:test"
    built = subprocess.run(
        [ROOT / ".ci" / "image", "--bases", "debian", "--out", folder, "--tag", name],
        env=environ,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    container = run_ops("buildah", "from", "--pull-never", name, env=environ).stdout.strip()
    mounted = run_ops("buildah", "mount", container, env=environ)
    assert mounted.returncode == 0, mounted.stderr
    (folder / "said").write_text(built.stdout + built.stderr)
    (folder / "config.json").write_text(json.dumps(_config(folder / "image.tar")))
    # Of a gigabyte of layers and archives a fifth is left for pytest to keep.
    Path(mounted.stdout.strip()).rename(folder / "root")
    shutil.rmtree(shared / "layers")
    (folder / "image.tar").unlink()


def _config(archive: Path) -> dict[str, Any]:
    """The configuration in Docker's form: OCI's has no health check."""
    with tarfile.open(archive) as opened:

        def read(name: str) -> Any:
            file = opened.extractfile(name)
            assert file is not None
            return json.load(file)

        (image,) = read("manifest.json")
        config: dict[str, Any] = read(image["Config"])["config"]
    return config
