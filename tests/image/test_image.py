"""The container image: what is in it, and that it runs as promised."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from host_process import chat, content_of
from image.built_image import Image
from image.container import running, volume
from ops_tools import ROOT, run_ops
from packaging.markers import default_environment
from packaging.requirements import Requirement
from processes import Process

pytestmark = [pytest.mark.ops, pytest.mark.servers]

REQUIREMENTS = ROOT / ".ci" / "image-requirements.txt"
KEY = "a-key-for-this-test"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}


def test_the_structure_is_as_promised(image: Image) -> None:
    """container-structure-test held the built image against its file."""
    assert re.search(r"Passes: +2\nFailures: +0\n", image.said), image.said


def test_the_dockerfile_is_clean() -> None:
    """hadolint has nothing to say, and checkov only what is excused where it stands."""
    hadolint = run_ops("hadolint", "Dockerfile")
    assert (hadolint.returncode, hadolint.stdout) == (0, "")
    checkov = run_ops(
        "checkov", "--framework", "dockerfile", "--file", "Dockerfile", "--skip-download",
        "--output", "json",
    )  # fmt: skip
    summary = json.loads(checkov.stdout)["summary"]
    assert summary["passed"] > 50
    assert (summary["failed"], summary["parsing_errors"], checkov.returncode) == (0, 0, 0)


def test_the_script_is_clean() -> None:
    """As shellcheck sees it."""
    assert run_ops("shellcheck", ".ci/image").stdout == ""


def test_the_bill_of_materials_is_the_lock(image: Image) -> None:
    """Every pin is in the image with its version, and no Python package that is not pinned."""
    environment: dict[str, Any] = {**default_environment(), "python_version": "3.13"}
    environment |= {"python_full_version": "3.13.5", "sys_platform": "linux"}
    pinned = {}
    for line in REQUIREMENTS.read_text().splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\"))
            if requirement.marker is None or requirement.marker.evaluate(environment):
                pinned[requirement.name] = str(requirement.specifier).removeprefix("==")
    found = {
        component["name"].lower().replace("_", "-").replace(".", "-"): component["version"]
        for component in image.sbom["components"]
        if component.get("purl", "").startswith("pkg:pypi/")
    }
    assert len(pinned) > 40
    assert found == pinned
    assert image.sbom["metadata"]["component"]["name"] == "radgateway"


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """All that is in the image, by its path there."""
    for path in root.rglob("*"):
        yield f"/{path.relative_to(root)}", path


def test_nothing_is_in_it_that_it_does_not_need(image: Image) -> None:
    """No shell, compiler, package installer, cache, test or history of ours."""
    programs = {
        Path(name).name for name, _ in files(image.root) if re.search(r"/s?bin/[^/]+$", name)
    }
    assert "python3" in programs
    unwanted = "sh bash dash busybox gcc cc g++ ld make perl pip pip3 apt apt-get curl wget git su"
    assert not programs & set(unwanted.split())
    ours = [name for name, _ in files(image.root / "app" / "radgateway")]
    assert len(ours) > 300
    assert not [name for name in ours if re.search(r"(^|/)(tests?|\.git|\.ci|\.venv)(/|$)", name)]
    assert {path.name for path in (image.root / "app").iterdir()} >= {"radgateway", "LICENSE"}
    assert not (image.root / "app" / "pip").exists()
    for gone in ("build", "root/.cache", "app/bin", "var/cache/apt/pkgcache.bin", "src"):
        assert not (image.root / gone).exists(), gone


def test_its_user_can_change_nothing_of_it(image: Image) -> None:
    """Nothing is its own or open to all, but for the volume and /tmp; what we add is root's."""
    for name, path in files(image.root):
        found = path.lstat()
        if name == "/data":
            assert (found.st_uid, found.st_gid, list(path.iterdir())) == (65532, 65532, [])
            continue
        assert 65532 not in (found.st_uid, found.st_gid), name
        if name.startswith("/app"):
            assert (found.st_uid, found.st_gid) == (0, 0), name
        if stat.S_ISREG(found.st_mode):
            assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID), name
        if not stat.S_ISLNK(found.st_mode):
            assert found.st_mode & stat.S_ISVTX or not found.st_mode & stat.S_IWOTH, name


def test_all_bytecode_is_there_and_is_not_checked_again(image: Image) -> None:
    """So that a start compiles nothing, which a read-only root would make it do each time."""
    sources = list((image.root / "app").rglob("*.py"))
    assert len(sources) > 1000
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        assert compiled.exists(), source
        # PEP 552: bit 0 for a hash in place of a time, bit 1 for one that is to be checked.
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", compiled


def test_the_health_check_is_a_program_of_the_image(image: Image) -> None:
    """In exec form, as there is no shell; and its time fits the command's own."""
    check = image.config["Healthcheck"]
    assert check["Test"] == ["CMD", *image.config["Entrypoint"], "health"]
    assert check["Timeout"] == 5_000_000_000
    assert image.config["StopSignal"] == "SIGTERM"


def test_what_runs_tells_the_commit_of_its_label(image: Image) -> None:
    """By it the evidence of a release finds its own build in Prometheus."""
    environ = dict(each.split("=", 1) for each in image.config["Env"])
    label = image.config["Labels"]["org.opencontainers.image.revision"]
    assert environ["RADGATEWAY_TELEMETRY__REVISION"] == label.replace("-", ".")


def test_its_size_is_what_the_documentation_says(image: Image) -> None:
    """Within a tenth; in megabytes of files, as `docker images` counts."""
    page = (ROOT / "docs" / "how-to" / "deploy-container.md").read_text()
    written = re.search(r"(\d+) MB, of which", page)
    assert written is not None
    size = sum(p.lstat().st_size for _, p in files(image.root) if stat.S_ISREG(p.lstat().st_mode))
    assert abs(size / 1e6 - int(written[1])) < int(written[1]) / 10, size


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return volume(tmp_path / "data")


def serving(process: Process) -> str:
    """Where it listens."""
    return process.wait_for(r"^radgateway \S+ \(\w+, 1 worker\) on (http://\S+)$")[1]


ENVIRON = {"RAD_KEY": KEY, "RADGATEWAY_SERVER__PORT": "0", "RADGATEWAY_SERVER__HOST": "127.0.0.1"}


def test_it_serves_as_nobody_with_a_read_only_root(image: Image, data: Path) -> None:
    """Health, a chat, a row in the ledger on the volume; and nothing of the volume is imported."""
    for name in ("msgspec.py", "radgateway.py", "sitecustomize.py"):
        (data / name).write_text("raise SystemExit('imported from the volume')")
    with running(image.root, image.config, data, environ=ENVIRON) as process:
        url = serving(process)
        pid = process.process.pid
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", status, re.MULTILINE)
        assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        assert [m.split()[5].split(",")[0] for m in mounts if m.split()[4] == "/"] == ["ro"]

        port = url.rpartition(":")[2]
        with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
            assert client.get("/health").json() == {"status": "ok"}
            assert client.get("/health/ready").status_code == 200
            answer = client.post("/v1/chat/completions", headers=AUTHORIZED, json=chat("hello"))
            assert answer.json()["choices"][0]["message"]["content"] == "Echo: hello"
        _, *check = image.config["Healthcheck"]["Test"]
        for words in (check[3:], [*check[3:], "--ready"]):
            beside = {"RADGATEWAY_SERVER__PORT": port}
            with running(image.root, image.config, data, command=words, environ=beside) as probe:
                assert probe.process.wait(20) == 0, probe.output
        assert process.end() == 0, process.output
    with closing(sqlite3.connect(data / "radgateway.db")) as ledger:
        (rows,) = ledger.execute("SELECT count(*) FROM radgateway_requests").fetchone()
    assert rows == 1
    assert (data / "radgateway.db").stat().st_uid == 65532
    assert "Traceback" not in process.output


def test_the_health_check_says_no_where_nothing_listens(image: Image, data: Path) -> None:
    """With the exit code that Docker reads, 1."""
    command = ["health", "--url", "http://127.0.0.1:1"]
    with running(image.root, image.config, data, command=command) as process:
        assert process.process.wait(20) == 1
        process.wait_for("http://127.0.0.1:1/health")


def test_it_drains_on_sigterm(image: Image, data: Path) -> None:
    """A stream under way ends whole, and the container ends with 0."""
    words = "these are the last words before it all ends"
    with running(image.root, image.config, data, environ=ENVIRON) as process:
        url = serving(process)
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", headers=AUTHORIZED,
            json=chat(words, stream=True), trust_env=False, timeout=20,
        ) as response:  # fmt: skip
            lines = response.iter_lines()
            text = content_of(next(line for line in lines if content_of(line)))
            process.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert text + "".join(map(content_of, rest)) == f"Echo: {words}"
        assert process.process.wait(20) == 0, process.output


@pytest.mark.parametrize("module", ["psycopg", "redis", "grpc", "jwt", "cryptography", "uvloop"])
def test_what_is_compiled_fits_the_bases(image: Image, data: Path, module: str) -> None:
    """Wheels of the build's Python load in the runtime's, with its C library."""
    config: dict[str, Any] = {**image.config, "Entrypoint": ["/usr/bin/python3", "-c"]}
    with running(image.root, config, data, command=[f"import {module}"]) as process:
        assert process.process.wait(20) == 0, process.output
