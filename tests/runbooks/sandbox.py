"""Everything a runbook's commands talk to, on this machine, and a shell to type them into.

Real: the gateway with a ledger in PostgreSQL, Prometheus with the rules of the pack, Alertmanager,
the incident app, curl, pg_dump, amtool, promtool, radgateway, and the scripts of examples/.
Strict stand-ins: kubectl (`strict_kubectl`) and psql (`strict_psql`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from incident.services import PAGE, TOKEN, Services, services
from ops_tools import ops_tool
from processes import Process, started
from psycopg.conninfo import conninfo_to_dict
from runbooks.pages import of
from runbooks.strict_kubectl import MOUNTED
from slo.alertmanager_server import alertmanager, listening
from slo.prometheus_server import Prometheus, prometheus
from slo.server_process import free_address
from slo.waiting import until
from slo_tools import ROOT

from radgateway.chaos.postgres import PostgresServer, binaries, postgres_server
from radgateway.slo.pack import artefacts
from radgateway.slo.settings import Settings

KEYS = {
    "RAD_KEY": "the-key-of-a-caller",
    "RAD_ADMIN_KEY": "the-key-of-an-admin",
    "RAD_INCIDENT_KEY": "the-key-of-a-responder",
    "STATUSPAGE_TOKEN": TOKEN,
}
GATEWAY = """\
environment: alpha
keys: [{{name: mobile-app, secret: env:RAD_KEY}}]
admin_keys: [{{name: ops, secret: env:RAD_ADMIN_KEY}}]
providers: {{openai: {{kind: mock}}, other: {{kind: mock}}}}
models: {{gpt-4o-mini: {{candidates: [{{provider: openai}}, {{provider: other}}]}}}}
storage: {{usage: "{dsn}"}}
telemetry: {{metrics: true, key_names_in_metrics: true}}
"""
INCIDENT = """\
environment: alpha
server: {{port: {port}}}
store: {folder}/incidents.db
responders: [{{name: alice, secret: env:RAD_INCIDENT_KEY}}]
statuspage: {{page: {page}, token: env:STATUSPAGE_TOKEN, url: "{services}"}}
alertmanager: {{url: "http://{alertmanager}"}}
"""
LIMIT_S = 60


@dataclass
class Sandbox:
    """One; `values` are those of the variables that pages set."""

    folder: Path
    values: Mapping[str, str]
    watcher: Prometheus
    address: str
    _gateway: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def ready(self) -> None:
        """A gateway that serves: another one, where the page before has drained it."""
        url = self.values["GATEWAY"]
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready").status_code == 200:
                return
        self._gateway.close()
        port = self.address.rpartition(":")[2]
        serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", port]
        process = self._gateway.enter_context(started(serve, self.folder, KEYS))
        process.wait_for(r"(http://127\.0\.0\.1:\d+)")
        self.use(process)

    def use(self, process: Process) -> None:
        """One good request and one with a wrong key, so that there is something to see."""
        url = self.values["GATEWAY"]
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
        for key, status in ((KEYS["RAD_KEY"], 200), ("a-wrong-key-of-somebody", 401)):
            answer = httpx.post(
                f"{url}/v1/chat/completions", json=body, headers={"x-api-key": key}, timeout=20
            )
            assert answer.status_code == status
        process.wait_for("radgateway.audit.authentication")
        (self.folder / "gateway.log").write_text(process.output + "\n")

    def type(self, page: Path) -> subprocess.CompletedProcess[str]:
        """All shell of a page as one session that ends with the first failure."""
        setup, *rest = of(page, "sh")
        home = self.folder / page.stem
        shutil.copytree(self.folder / "home", home)
        ours = [f"{name}={shlex.quote(value)}" for name, value in self._ours(page).items()]
        script = "\n".join(["set -euo pipefail", setup, *ours, *rest])
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "REAL_KUBECTL": ops_tool("kubectl"),
            "GATEWAY_LOG": str(self.folder / "gateway.log"),
            "SECRETS": str(self.folder / "mounted"),
            "PGSERVICEFILE": str(self.folder / "pg_service.conf"),
            "RAD_INCIDENT_KEY": KEYS["RAD_INCIDENT_KEY"],
        }
        return subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def _ours(self, page: Path) -> dict[str, str]:
        """Where this machine differs from the page's examples: addresses, and who is asked for."""
        used = " ".join(of(page, "sh"))
        found = {name: value for name, value in self.values.items() if f"{name}=" in used}
        if "INCIDENT=" in used:
            found["INCIDENT"] = self._incident(over="incident close" in used)
        return found

    def _incident(self, *, over: bool) -> str:
        """A new one, as somebody would report it, or one that is over and judged."""
        with httpx.Client(
            base_url=f"{self.values['RAD_INCIDENT_URL']}/v0/incidents",
            headers={"authorization": f"Bearer {KEYS['RAD_INCIDENT_KEY']}"},
        ) as client:
            told = client.post("", json={"title": "somebody's", "severity": "SEV-2"})
            found: str = told.raise_for_status().json()["id"]
            if over:
                client.post(f"/{found}/resolve", json={}).raise_for_status()
                verdict = {"verdict": "useful"}
                client.post(f"/{found}/verdict", json=verdict).raise_for_status()
        return found

    def close(self) -> None:
        """End the gateway."""
        self._gateway.close()


@contextlib.contextmanager
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """All of it, for as long as the block runs."""
    rules = {name: text for name, text in artefacts(Settings()).items() if "/rules/" in name}
    own, incidents = free_address(), free_address()
    with (
        postgres_server() as postgres,
        listening() as people,
        services() as told,
        alertmanager(_made(folder, "alertmanager"), people, lambda files: files) as manager,
        prometheus(_made(folder, "prometheus"), own, rules, manager) as watcher,
        _incident_app(folder, incidents, manager, told),
    ):
        _shims(_made(folder, "bin"))
        _home(_made(folder, "home"))
        _mount(_made(folder, "mounted"))
        (folder / "gateway.yaml").write_text(GATEWAY.format(dsn=postgres.dsn))
        (folder / "pg_service.conf").write_text(_service(postgres))
        made = Sandbox(
            folder,
            {
                "GATEWAY": f"http://{own}",
                "PUBLIC": f"http://{own}",
                "PROMETHEUS": watcher.url,
                "ALERTMANAGER": f"http://{manager}",
                "RAD_INCIDENT_URL": f"http://{incidents}",
            },
            watcher,
            own,
        )
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def _incident_app(folder: Path, address: str, manager: str, told: Services) -> Iterator[None]:
    file = folder / "incident.yaml"
    file.write_text(
        INCIDENT.format(
            port=address.rpartition(":")[2],
            folder=folder,
            page=PAGE,
            services=told.url,
            alertmanager=manager,
        )
    )
    serve = ["-m", "radgateway", "incident", "serve", "--config", str(file)]
    with started(serve, folder, KEYS):
        until(lambda: httpx.get(f"http://{address}/health/ready").is_success, "the incident app")
        yield


def _made(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def _shims(folder: Path) -> None:
    """What the shell finds first: our Python's command, the stand-ins, and curl that tells."""
    here = Path(__file__).parent
    programs = binaries()
    assert programs is not None
    python = shlex.quote(sys.executable)
    scripts = {
        "radgateway": f'exec {python} -m radgateway "$@"',
        "kubectl": f'exec {python} {here / "strict_kubectl.py"} "$@"',
        "psql": f'exec {python} {here / "strict_psql.py"} "$@"',
        "pg_dump": f'exec {programs / "pg_dump"} "$@"',
        # An answer of 4xx or 5xx ends the session, unless the page shows the status itself.
        "curl": 'case " $* " in *" -w "*|*" --config "*) ;; *) set -- --fail-with-body "$@" ;; '
        f'esac\nexec {shutil.which("curl")} "$@"',
    }
    for name, script in scripts.items():
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


def _home(folder: Path) -> None:
    """The files that the handbook has people make."""
    ours = _made(folder, ".radgateway")
    (ours / "admin-header").write_text(f"x-api-key: {KEYS['RAD_ADMIN_KEY']}\n")
    (ours / "canary.key").write_text(KEYS["RAD_KEY"])


def _mount(folder: Path) -> None:
    """What the pods of production have below /run/secrets/radgateway, by the names it asks for."""
    text = (ROOT / "examples/kubernetes/overlays/production/gateway.yaml").read_text()
    addresses = {"database_url": "postgresql://u:p@db/usage", "redis_url": "redis://redis:6379/0"}
    for name in re.findall(rf"{MOUNTED}/(\w+)", text):
        (folder / name).write_text(addresses.get(name, f"the-{name}-of-a-test"))


def _service(postgres: PostgresServer) -> str:
    """libpq's file of connections."""
    values = {**conninfo_to_dict(postgres.dsn)}
    return "\n".join(["[radgateway]", *(f"{k}={v}" for k, v in values.items()), ""])
