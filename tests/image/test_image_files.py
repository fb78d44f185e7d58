"""What the image is made from: its lock, its bases, and what the build may see."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
from ops_tools import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package of a lock; a package with two pins has both."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"^(?=[a-z])", (ROOT / name).read_text(), flags=re.MULTILINE):
        pin = PIN.match(block)
        if pin is not None:
            key = f"{pin[1]}=={pin[2]}"
            found[key] = (pin[2], frozenset(re.findall(r"sha256:[0-9a-f]{64}", block)))
    return found


def test_the_image_has_the_versions_that_are_tested() -> None:
    """Each pin of the image, hashes included, is one of constraints.txt."""
    image, tested = locked(".ci/image-requirements.txt"), locked("constraints.txt")
    assert len(image) > 40
    assert all(hashes for _, hashes in image.values())
    assert image.items() <= tested.items()


def test_the_image_has_what_serving_needs_and_no_tools() -> None:
    """The dependencies of every extra it ships are in its lock; those of development are not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (recipe,) = re.findall(
        r"uv pip compile .*\n.*-o \.ci/image-requirements\.txt", (ROOT / "Makefile").read_text()
    )
    extras = re.findall(r"--extra (\w+)", recipe)
    page = (ROOT / "docs" / "how-to" / "deploy-container.md").read_text()
    (listed,) = re.findall(r"the extras (.+), by hash", page)
    assert re.findall(r"`(\w+)`", listed) == extras
    names = {pin.partition("==")[0] for pin in locked(".ci/image-requirements.txt")}
    wanted = project["project"]["dependencies"]
    for extra in extras:
        wanted = wanted + project["project"]["optional-dependencies"][extra]
    assert {re.split(r"[\[><=;]", each)[0] for each in wanted} <= names
    assert not names & {"pytest", "mypy", "ruff", "hatchling", "pip", "setuptools", "mkdocs"}


def test_bases_are_pinned_by_digest() -> None:
    """Each stage starts from one, and both are of the same Python on the same Debian."""
    bases = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", DOCKERFILE, re.MULTILINE))
    assert bases.keys() == {"BUILD_IMAGE", "RUNTIME_IMAGE"}
    for each in bases.values():
        assert re.fullmatch(r"[a-z0-9./:-]+@sha256:[0-9a-f]{64}", each)
    assert re.findall(r"^FROM \$\{(\w+)\}", DOCKERFILE, re.MULTILINE) == list(bases)
    assert "python:3.13-slim-trixie@" in bases["BUILD_IMAGE"]
    assert "python3-debian13:nonroot@" in bases["RUNTIME_IMAGE"]


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    """An ignore file that lets in by name: a new folder, or a secret, stays out."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = set()
    for names in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        copied |= set(names.split())
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)


def ci_image(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".ci" / "image", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_the_script_explains_itself() -> None:
    """With what it writes, what it needs, and an example."""
    done = ci_image("--help")
    assert done.returncode == 0
    for word in ("image.tar", "sbom.cdx.json", "--bases", "mmdebstrap", "exit codes"):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [("--bases", "alpine"), ("--tag",), ("--what",), ("x",)])
def test_wrong_arguments_build_nothing(arguments: tuple[str, ...]) -> None:
    """They are answered with 2 and the usage."""
    done = ci_image(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage:")
