"""What others' tools say of the pipeline: nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ops_tools import ROOT, run_ops

pytestmark = pytest.mark.ops

GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci-cd-pipeline.yml"
TEMPLATED = """\
on: push
jobs:
  greet:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      - run: echo ${{ github.event.head_commit.message }}
"""
STYLE = """\
extends: default
rules:
  line-length: {max: 120}
  document-start: disable
  truthy: {check-keys: false}
  braces: {max-spaces-inside: 0}
  comments: {min-spaces-from-content: 1}
"""


SHELLS = (b"#!/usr/bin/env bash", b"#!/bin/sh", b"#!/bin/bash")


def scripts() -> list[Path]:
    """All of the repository that bash or sh runs."""
    folders = (ROOT / ".ci", ROOT / "examples")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if file.read_bytes().startswith(SHELLS)]


def test_shellcheck_finds_nothing() -> None:
    """In any script; and those of the pipeline can be run."""
    found = scripts()
    assert {"run", "audit", "deploy", "canary", "rollback.sh", "image"} <= {f.name for f in found}
    done = run_ops("shellcheck", *found)
    assert done.stdout == ""
    ours = [file for file in found if file.parent.name == ".ci"]
    assert [file for file in ours if not os.access(file, os.X_OK)] == []


def test_actionlint_finds_nothing() -> None:
    """Syntax, expressions, inputs of known actions, and the shell in between."""
    done = run_ops("actionlint", WORKFLOW)
    assert (done.returncode, done.stdout) == (0, "")


def test_zizmor_finds_nothing(tmp_path: Path) -> None:
    """At its most pedantic; and it finds what it looks for where that is."""
    done = run_ops("zizmor", "--offline", "--persona=pedantic", GITHUB)
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "bad.yml"
    bad.write_text(TEMPLATED)
    done = run_ops("zizmor", "--offline", bad)
    assert done.returncode != 0
    assert "template-injection" in done.stdout
    assert "unpinned-uses" in done.stdout


@pytest.mark.parametrize(
    ("schema", "file"),
    [("vendor.github-workflows", WORKFLOW), ("vendor.dependabot", GITHUB / "dependabot.yml")],
)
def test_the_files_are_of_their_schema(schema: str, file: Path) -> None:
    """GitHub's own, as SchemaStore keeps them."""
    done = run_ops("check-jsonschema", "--builtin-schema", schema, file)
    assert done.returncode == 0, done.stdout


def test_yamllint_finds_nothing() -> None:
    """Duplicate keys among the rest, which a parser would let through."""
    done = run_ops("yamllint", "--strict", "--config-data", STYLE, GITHUB)
    assert (done.returncode, done.stdout) == (0, "")
