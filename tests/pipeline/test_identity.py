"""How the pipeline shows who it is: secrets in files alone, and an identity that is not stored."""

from __future__ import annotations

import base64
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ops_tools import ROOT
from pipeline.scripts import IMAGE, RUN, Programs, run

SECRET = "not-to-be-seen"
CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def test_a_command_gets_its_keys_in_files(programs: Programs, tmp_path: Path) -> None:
    """Only it can read them; its environment has their paths, and they go when it ends."""
    programs.add(
        "asked",
        f'env > "{tmp_path}/env"; cat "$KEY_FILE" > "{tmp_path}/key"\n'
        f'stat -c "%a %n" "$KEY_FILE" "$(dirname "$KEY_FILE")" > "{tmp_path}/modes"; exit 7',
    )
    environ = {**programs.environ, "SMOKE_KEY": SECRET, "PROMETHEUS_TOKEN": SECRET + "2"}
    done = run("with-keys", "asked", "--url", "http://x", env=environ)
    assert done.returncode == 7
    assert (tmp_path / "key").read_text() == SECRET
    assert SECRET not in (tmp_path / "env").read_text()
    assert SECRET not in programs.log.read_text() + done.stdout + done.stderr
    modes = [line.split() for line in (tmp_path / "modes").read_text().splitlines()]
    assert [mode for mode, _ in modes] == ["600", "700"]
    assert not any(Path(path).exists() for _, path in modes)


def test_a_key_that_is_not_set_has_no_file(programs: Programs, tmp_path: Path) -> None:
    """So a script says that it is missing, and does not send an empty one."""
    programs.add("asked", f'env > "{tmp_path}/env"')
    run("with-keys", "asked", env={**programs.environ, "SMOKE_KEY": ""})
    assert "KEY_FILE" not in (tmp_path / "env").read_text()


def token(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.{SECRET}"


@contextmanager
def issuer(answer: str, status: int = 200) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """GitHub's address for tokens; who asked there, and for what."""
    asked: list[tuple[str, str]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/token?api-version=2.0", asked
        server.shutdown()
        thread.join(5)


def asks(programs: Programs, url: str) -> dict[str, str]:
    return {
        **programs.environ,
        "ACTIONS_ID_TOKEN_REQUEST_URL": url,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-this-job",
    }


def test_the_cluster_gets_the_identity_of_this_run(programs: Programs) -> None:
    """In kubectl's form, with its end, for the audience that was asked for."""
    given = token(exp=1_795_604_400, aud="cluster")
    with issuer(json.dumps({"value": given})) as (url, asked):
        done = run("cluster-token", "https://cluster.example", env=asks(programs, url))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": given, "expirationTimestamp": "2026-11-25T11:00:00Z"},
    }
    assert asked == [
        ("/token?api-version=2.0&audience=https://cluster.example", "Bearer of-this-job")
    ]


def test_no_identity_fails(programs: Programs) -> None:
    """Refused, or asked for outside of a job that may: and what was answered is not printed."""
    with issuer(SECRET, status=403) as (url, _):
        done = run("cluster-token", "a", env=asks(programs, url))
    assert done.returncode != 0
    assert SECRET not in done.stdout + done.stderr
    done = run("cluster-token", "a", env=programs.environ)
    assert done.returncode != 0
    assert "id-token: write" in done.stderr


def test_the_kubeconfig_has_no_secret(programs: Programs, tmp_path: Path) -> None:
    """It has the command that fetches one, which is there."""
    file = tmp_path / "kubeconfig"
    environ = {**programs.environ, "KUBECONFIG": str(file), "CLUSTER_CA": CA}
    done = run("kubeconfig", "--server", "https://cluster.example:6443", env=environ)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = yaml.safe_load(file.read_text())
    cluster = content["clusters"][0]["cluster"]
    assert cluster["server"] == "https://cluster.example:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]).decode().strip() == CA
    command = content["users"][0]["user"]["exec"]
    assert command["command"] == str(ROOT / ".ci" / "cluster-token")
    assert command["args"] == ["https://cluster.example:6443"]


@pytest.mark.parametrize(
    ("server", "ca"),
    [("http://cluster", CA), ('https://x", evil: "', CA), ("https://cluster", "none")],
)
def test_a_cluster_that_cannot_be_trusted_is_refused(
    programs: Programs, tmp_path: Path, server: str, ca: str
) -> None:
    """Without TLS, without an authority, or with what would be more than an address."""
    file = tmp_path / "kubeconfig"
    environ = {**programs.environ, "KUBECONFIG": str(file), "CLUSTER_CA": ca}
    assert run("kubeconfig", "--server", server, env=environ).returncode == 2
    assert not file.exists()


def test_only_an_image_of_this_commit_is_let_through(programs: Programs) -> None:
    """Built by this workflow, from this commit, on GitHub's machines; gh's no is a no."""
    programs.add("gh", "exit ${GH_SAYS:-0}")
    environ = {**programs.environ, **RUN}
    assert run("verify-provenance", IMAGE, env=environ).returncode == 0
    (call,) = programs.calls
    assert call.startswith(f"gh attestation verify oci://{IMAGE} --repo example/radgateway ")
    assert f"--source-digest {RUN['GITHUB_SHA']}" in call
    assert "--signer-workflow example/radgateway/.github/workflows/ci-cd-pipeline.yml" in call
    assert "--deny-self-hosted-runners" in call
    assert run("verify-provenance", IMAGE, env={**environ, "GH_SAYS": "1"}).returncode == 1


@pytest.mark.parametrize("image", ["ghcr.io/example/radgateway:1.0", "", "x@sha256:12", "--repo"])
def test_what_is_no_digest_is_not_even_asked_about(programs: Programs, image: str) -> None:
    """A tag can be moved, between the question and the deployment too."""
    programs.add("gh")
    assert run("verify-provenance", image, env={**programs.environ, **RUN}).returncode == 2
    assert programs.calls == []


def test_a_registry_s_token_is_never_an_argument(programs: Programs, tmp_path: Path) -> None:
    """docker and skopeo read it from their standard input."""
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "scan.json").write_text("{}")
    digest = IMAGE.partition("@")[2]
    programs.add("skopeo", f'if [ "$1" = copy ]; then echo -n {digest} > "{folder}/digest"; fi')
    programs.add("docker", f'cat > "{tmp_path}/stdin"')
    programs.add("gh")
    output = tmp_path / "output"
    environ = {
        **programs.environ, **RUN,
        "REGISTRY_USER": "ci", "REGISTRY_TOKEN": SECRET, "GITHUB_OUTPUT": str(output),
    }  # fmt: skip
    to = ("--to", "docker://ghcr.io/Example/RadGateway:c0ffee")
    done = run("push-image", *to, "--image-dir", folder, env=environ)
    assert (done.returncode, done.stdout) == (0, f"{IMAGE}\n"), done.stderr
    assert output.read_text() == f"name=ghcr.io/example/radgateway\ndigest={digest}\n"
    assert run("verify-provenance", IMAGE, env=environ).returncode == 0
    assert (tmp_path / "stdin").read_text() == f"{SECRET}\n"
    assert SECRET not in programs.log.read_text()


def test_an_image_that_was_not_scanned_is_not_pushed(programs: Programs, tmp_path: Path) -> None:
    """Scanned and let through: a scan that was not to be believed leaves no scan.json."""
    programs.add("skopeo")
    done = run(
        "push-image", "--to", "docker://x/y:1", "--image-dir", tmp_path, env=programs.environ
    )
    assert done.returncode == 1
    assert "not scanned yet" in done.stderr
    assert programs.calls == []
