"""`.ci/as-root`: a command as root where this is somebody else, and nothing left of root's."""

from __future__ import annotations

import pytest
from pipeline.scripts import Programs, run

SUDO = 'if [ "$1" = env ]; then exec "$@"; fi'


@pytest.mark.parametrize("code", [0, 3])
def test_what_it_made_belongs_to_who_asked(programs: Programs, code: int) -> None:
    """However the command ends, and its code is what comes out."""
    programs.add("id", "case $1 in -u) echo 1001 ;; -g) echo 121 ;; esac")
    programs.add("sudo", SUDO)
    programs.add("made", f'echo "$HOME"; exit {code}')
    done = run("as-root", "made", "this", env={**programs.environ, "HOME": "/home/runner"})
    assert (done.returncode, done.stdout) == (code, "/home/runner\n")
    assert "made this" in programs.calls
    assert programs.calls[-1] == "sudo chown -R 1001:121 ."


def test_root_needs_no_sudo(programs: Programs) -> None:
    """It is just the command."""
    programs.add("id", "echo 0")
    programs.add("sudo", SUDO)
    programs.add("made")
    assert run("as-root", "made", env=programs.environ).returncode == 0
    assert programs.calls == ["id -u", "made "]
