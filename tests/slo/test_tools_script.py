"""`.ci/tools`: what the tests run is installed where it is missing, and never started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from slo_tools import ROOT

SCRIPT = ROOT / ".ci" / "tools"
TOOLS = ("promtool", "prometheus", "amtool", "prometheus-alertmanager", "node", "npm")


def program(folder: Path, name: str, text: str = "exit 0") -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with a shell and nothing of ours."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "sh"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    program(folder, "id", "echo 1000")
    return folder


def tools(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT], env={"PATH": str(path)}, capture_output=True, text=True, timeout=30, check=False
    )


def test_it_does_nothing_where_all_is_there(path: Path) -> None:
    """Not a word, not a package asked for; upstream's name of Alertmanager does as well."""
    for name in (*TOOLS[:3], *TOOLS[4:], "alertmanager"):
        program(path, name)
    done = tools(path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("has_apt", [False, True])
def test_it_says_what_to_do_by_hand(path: Path, has_apt: bool) -> None:
    """Without apt-get, or without the right to use it: a failure that names what is missing."""
    if has_apt:
        program(path, "apt-get")
    done = tools(path)
    assert done.returncode == 1
    assert "promtool, prometheus, amtool, alertmanager, node and npm" in done.stderr
    assert ("there is no sudo" if has_apt else "There is no apt-get") in done.stderr


def test_it_installs_what_is_missing_as_root(path: Path, tmp_path: Path) -> None:
    """With fresh lists where the first try fails, and without a service at the next start."""
    log = tmp_path / "log"
    lists = tmp_path / "lists"
    for name in ("promtool", "prometheus", "npm", "apt-get", "systemctl"):
        program(path, name)
    program(
        path,
        "sudo",
        f"""echo "$@" >> {log}
case "$*" in
  *" install "*) [ -e {lists} ] || exit 100 ;;
  *"apt-get update"*) : > {lists} ;;
  tee*) while read -r line; do :; done ;;
esac""",
    )
    done = tools(path)
    assert done.returncode == 0, done.stderr
    asked = log.read_text()
    assert asked.count("--no-install-recommends prometheus-alertmanager nodejs npm\n") == 2
    assert "apt-get update" in asked
    assert "systemctl disable --quiet prometheus-alertmanager\n" in asked
    assert " prometheus\n" not in asked


def test_it_fails_where_nothing_can_be_installed(path: Path) -> None:
    """A machine without a way to the packages: no false green."""
    for name in ("apt-get", "sudo"):
        program(path, name, "exit 100" if name == "sudo" else "exit 0")
    assert tools(path).returncode != 0


def test_the_test_commands_need_it() -> None:
    """`make test` and `make fast`, so that a fresh machine has what they run."""
    makefile = (ROOT / "Makefile").read_text()
    assert "\ntest: $(READY) tools " in makefile
    assert "\nfast: $(READY) tools " in makefile
