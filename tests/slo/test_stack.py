"""The files of the observability stack fit each other, the gateway, and the tools that read them.

Not one of Grafana, Loki, Tempo, the collector and Docker runs here. What can be known without
them is: schemas, names, ports, mounts, secrets, and that what a file expects of the gateway's
lines and configuration is what the gateway writes and takes.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from slo.asked_series import asked

from radgateway.config import load_config
from radgateway.incident.api import WEBHOOK
from radgateway.incident.settings import load_incident_config
from radgateway.slo import collector, compose, dashboards, grafana, loki, prometheus, tempo
from radgateway.slo.dashboards.logs import LINES
from radgateway.slo.pack import artefacts
from radgateway.slo.routing import secret_files
from radgateway.slo.rules import longest_days
from radgateway.slo.settings import Contacts, Settings
from radgateway.slo.stack import ADDRESSES, GENERATED, filled
from radgateway.telemetry.logs import LEVELS, LineFormat

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples/observability"
DEFAULT = Settings()
FILES = artefacts(DEFAULT)
COMPOSE: Any = yaml.safe_load(FILES[compose.PATH])
SERVICES: dict[str, Any] = COMPOSE["services"]
COLLECTOR: Any = yaml.safe_load(FILES[collector.PATH])
SOURCES: dict[str, Any] = {
    source["uid"]: source for source in yaml.safe_load(FILES[grafana.SOURCES_PATH])["datasources"]
}
UNASKED = {"tempo", "collector"}
"""Services whose images have nothing that could ask whether they are well."""
ONCE = {"tempo-owner"}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_a_name_that_is_not_known_is_an_error() -> None:
    """A file can't be made with a hole in it."""
    assert filled("$LOKI $$x", LOKI="here") == f"# {GENERATED}\nhere $x"
    with pytest.raises(KeyError, match="NOWHERE"):
        filled("$NOWHERE")


def test_the_compose_file_is_of_its_schema(tmp_path: Path) -> None:
    """The Compose Specification's own schema takes it, and not one with a mistake."""
    spoilt = tmp_path / "compose.yaml"
    spoilt.write_text(FILES[compose.PATH].replace("healthcheck:", "healthchek:", 1))

    def checked(file: Path) -> int:
        schema = ["--builtin-schema", "vendor.compose-spec", str(file)]
        command = [sys.executable, "-m", "check_jsonschema", *schema]
        return subprocess.run(command, capture_output=True).returncode

    assert checked(FOLDER / compose.PATH) == 0
    assert checked(spoilt) == 1


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_pinned_and_fenced_in(name: str) -> None:
    """A version, no rights but those it needs, bounds, and ports for this machine alone."""
    service = SERVICES[name]
    if name not in ("gateway", "incident"):
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), service["image"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["driver"] == "json-file"  # the collector reads these
    assert "max-size" in service["logging"]["options"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert not {"privileged", "pid", "ipc", "devices"} & service.keys()
    if name not in ONCE:
        assert "mem_limit" in service
        assert ("healthcheck" in service) is (name not in UNASKED)
    for needed, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[needed]
        if how["condition"] == "service_completed_successfully":
            assert needed in ONCE


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_mounted_exists(name: str) -> None:
    """Each file and folder is there, read-only; each volume is declared."""
    for mount in SERVICES[name].get("volumes", ()):
        source, _, target = mount.partition(":")
        if source.startswith("./"):
            assert target.endswith(":ro")
            assert (FOLDER / source).exists(), source
        elif not source.startswith("/"):
            assert source in COMPOSE["volumes"]
    used = {m.partition(":")[0] for s in SERVICES.values() for m in s.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= used


def test_no_secret_is_in_the_compose_file() -> None:
    """Each is a file that the script makes, is used by somebody, and stands in no variable."""
    used = set()
    for service in SERVICES.values():
        for secret in service.get("secrets", ()):
            used.add(secret if isinstance(secret, str) else secret["source"])
        for variable in service.get("environment", {}):
            if "PASSWORD" in variable:
                assert variable.endswith("_FILE")
    given = secret_files(DEFAULT)
    assert used == COMPOSE["secrets"].keys() == {*compose.MADE_UP, *given, "database_url"}
    assert "$" not in FILES[compose.PATH]
    assert (FOLDER / ".gitignore").read_text().split() == ["secrets/"]


def test_alertmanager_finds_its_secrets() -> None:
    """Each file that its configuration names is mounted there, wherever that is to be."""
    elsewhere = Settings(contacts=Contacts(secrets_dir="/run/alerting"))
    for settings in (DEFAULT, elsewhere):
        made = artefacts(settings)
        named = set(re.findall(r'_file: "?([^"\n]+)', made["alertmanager/alertmanager.yml"]))
        service = yaml.safe_load(made[compose.PATH])["services"]["alertmanager"]
        assert {secret["target"] for secret in service["secrets"]} == named
    assert len(named) == 7


def test_the_stack_follows_the_settings() -> None:
    """The job that rules and dashboards go by is scraped, and the longest window is kept."""
    long = replace(DEFAULT.objectives.availability, window_days=90)
    settings = Settings(job="mine", objectives=replace(DEFAULT.objectives, availability=long))
    made = artefacts(settings)
    assert "job_name: mine\n" in made[prometheus.PATH]
    assert "retention.time=100d\n" in made[compose.PATH]
    assert "error_ratio:rate90d" in made[f"{dashboards.FOLDER}/slo.json"]
    assert (
        'record: "rad_gateway:error_ratio:rate90d"' in made["prometheus/rules/radgateway.rules.yml"]
    )


def test_the_secrets_are_made_once(tmp_path: Path) -> None:
    """The script makes all of them, each its own; run again it changes none."""
    script = tmp_path / compose.SECRETS_SCRIPT
    script.write_text(FILES[compose.SECRETS_SCRIPT])

    def run() -> dict[str, str]:
        subprocess.run(["sh", str(script)], check=True, capture_output=True, timeout=30)
        return {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}

    made = run()
    assert made.keys() == COMPOSE["secrets"].keys()
    random = [made[name] for name in compose.MADE_UP]
    assert len(set(random)) == len(random)
    assert all(re.fullmatch(r"[0-9a-f]{48}", text) for text in random)
    assert f":{made['postgres_password']}@{ADDRESSES['POSTGRES']}/" in made["database_url"]
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert run() == made


def test_all_are_where_the_others_look_for_them() -> None:
    """Each address is a service, and its port is the one that is listened on there."""
    listens = {
        "LOKI": yaml.safe_load(FILES[loki.PATH])["server"]["http_listen_port"],
        "TEMPO": yaml.safe_load(FILES[tempo.PATH])["server"]["http_listen_port"],
        "TEMPO_OTLP": port_of(
            yaml.safe_load(FILES[tempo.PATH])["distributor"]["receivers"]["otlp"]["protocols"][
                "grpc"
            ]["endpoint"]
        ),
        "COLLECTOR_GRPC": port_of(COLLECTOR["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]),
        "COLLECTOR_HTTP": port_of(COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"]),
        "COLLECTOR_METRICS": COLLECTOR["service"]["telemetry"]["metrics"]["readers"][0]["pull"][
            "exporter"
        ]["prometheus"]["port"],
        "GATEWAY": yaml.safe_load(FILES[compose.GATEWAY_PATH])["server"]["port"],
        "INCIDENT": yaml.safe_load(FILES[compose.INCIDENT_PATH])["server"]["port"],
        # what these listen on where nothing else is said
        "PROMETHEUS": 9090,
        "ALERTMANAGER": 9093,
        "GRAFANA": 3000,
        "POSTGRES": 5432,
        "REDIS": 6379,
    }
    assert listens == {name: port_of(address) for name, address in ADDRESSES.items()}
    for address in ADDRESSES.values():
        assert address.partition(":")[0] in SERVICES
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port == f"127.0.0.1:{listens[name.upper()]}:{listens[name.upper()]}"


def test_the_collectors_pipelines_are_whole() -> None:
    """Every member is declared and every declaration is used; the order is the advised one."""
    pipelines = COLLECTOR["service"]["pipelines"]
    for kind in ("receivers", "processors", "exporters"):
        members = {member for pipeline in pipelines.values() for member in pipeline[kind]}
        assert members == COLLECTOR[kind].keys(), kind
    assert set(COLLECTOR["service"]["extensions"]) == COLLECTOR["extensions"].keys()
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"
    assert pipelines["traces"]["processors"] == ["memory_limiter", "tail_sampling", "batch"]
    for exporter in COLLECTOR["exporters"].values():
        assert exporter["sending_queue"]["storage"] in COLLECTOR["extensions"]
        address = exporter["endpoint"].removeprefix("http://").partition("/")[0]
        assert address in ADDRESSES.values()
    assert COLLECTOR["receivers"]["file_log"]["storage"] in COLLECTOR["extensions"]


def test_traces_that_matter_are_kept() -> None:
    """All that failed, all that were slow, and the strategy's tenth of the rest."""
    policies = {p["name"]: p for p in COLLECTOR["processors"]["tail_sampling"]["policies"]}
    assert policies["errors"]["status_code"] == {"status_codes": ["ERROR"]}
    assert policies["slow"]["latency"] == {"threshold_ms": 20_000}
    assert policies["the-rest"]["probabilistic"] == {"sampling_percentage": 10}
    for policy in policies.values():
        assert policy["type"] in policy
    gateway = yaml.safe_load(FILES[compose.GATEWAY_PATH])
    assert gateway["telemetry"]["tracing"]["sampling_rate"] == 1


def test_the_collector_understands_the_gateways_lines() -> None:
    """What it looks for in a line is what the log writes: service, time, level, trace id."""
    line = LineFormat("1.0", "staging").line("warning", "hello", {"a": 1}, "request", TRACE_ID)
    receiver = COLLECTOR["receivers"]["file_log"]
    container, keep, parse, *rest = receiver["operators"]
    assert (container["type"], keep["type"]) == ("container", "filter")
    wanted = re.fullmatch(r'not \(body contains "(.+)"\)', keep["expr"])
    assert wanted is not None
    assert wanted[1].replace('\\"', '"') in line.decode()
    fields = yaml.safe_load(line)
    assert parse["timestamp"]["parse_from"] == 'attributes.line["@timestamp"]'
    layout = parse["timestamp"]["layout"].replace("%L", "%f")
    assert datetime.strptime(fields["@timestamp"], layout)
    named = {"debug", "info", "warn", "error", *parse["severity"]["mapping"].values()}
    assert named == LEVELS.keys()
    for operator in rest:
        for asked_for in re.findall(r"attributes\.line\.(\w+)", str(operator)):
            assert asked_for in fields
    assert rest[-1] == {"type": "remove", "field": "attributes.line"}
    assert f'{{service_name="{receiver["resource"]["service.name"]}"}}' == LINES
    assert fields["service"] == receiver["resource"]["service.name"]


def test_docker_keeps_its_logs_where_the_collector_reads_them() -> None:
    """The folder is mounted, and reading it is the only right the collector gets."""
    (pattern,) = COLLECTOR["receivers"]["file_log"]["include"]
    mounted = [m.split(":") for m in SERVICES["collector"]["volumes"]]
    assert any(pattern.startswith(f"{target}/") for _, target, *_ in mounted)
    assert SERVICES["collector"]["cap_add"] == ["DAC_READ_SEARCH"]
    storage = COLLECTOR["extensions"]["file_storage"]["directory"]
    assert ["collector-data", storage] in mounted


def test_loki_keeps_lines_for_as_long_as_the_budget_looks_back() -> None:
    """And forgets them then: retention is on, with the storage it needs."""
    config = yaml.safe_load(FILES[loki.PATH])
    assert config["limits_config"]["retention_period"] == "744h"
    assert DEFAULT.objectives.availability.window_days * 24 <= loki.RETENTION_H
    assert config["compactor"]["retention_enabled"] is True
    (schema,) = config["schema_config"]["configs"]
    assert config["compactor"]["delete_request_store"] == schema["object_store"]
    assert (schema["store"], schema["schema"], schema["index"]["period"]) == ("tsdb", "v13", "24h")
    assert config["limits_config"]["allow_structured_metadata"] is True


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """By promtool, with the rules where the container finds them."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "install Debian's package prometheus, or Prometheus itself"
    file = tmp_path / "prometheus.yml"
    file.write_text(FILES[prometheus.PATH])
    (tmp_path / "rules").mkdir()
    rules = "groups: [{name: some, rules: [{record: a:b, expr: vector(1)}]}]"
    for kind in ("rules", "alerts"):
        (tmp_path / f"rules/radgateway.{kind}.yml").write_text(rules)
    done = subprocess.run(
        [promtool, "check", "config", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "2 rule files found" in done.stdout


def test_prometheus_keeps_what_the_dashboards_need() -> None:
    """Samples for longer than the budget's window, exemplars, and the gateway under its name."""
    config = yaml.safe_load(FILES[prometheus.PATH])
    command = SERVICES["prometheus"]["command"]
    (kept,) = (re.fullmatch(r".*retention\.time=(\d+)d", o) for o in command if "n.time" in o)
    assert kept is not None
    assert int(kept[1]) > longest_days(DEFAULT)
    assert "--enable-feature=exemplar-storage" in command
    scrapes = {scrape["job_name"]: scrape for scrape in config["scrape_configs"]}
    (found,) = scrapes[DEFAULT.job]["dns_sd_configs"]
    assert f"{found['names'][0]}:{found['port']}" == ADDRESSES["GATEWAY"]
    for name, scrape in scrapes.items():
        for static in scrape.get("static_configs", ()):
            (target,) = static["targets"]
            assert target in (*ADDRESSES.values(), f"localhost:{port_of(ADDRESSES['PROMETHEUS'])}")
            assert name in SERVICES
    (manager,) = config["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": [ADDRESSES["ALERTMANAGER"]]}]


def test_grafanas_sources_lead_to_each_other() -> None:
    """From a point to its trace, from a line to its trace, from a span to its lines and rates."""
    types = {source["type"]: uid for uid, source in SOURCES.items()}
    assert types == {"prometheus": "prometheus", "loki": "loki", "tempo": "tempo"}
    for source in SOURCES.values():
        assert source["url"].removeprefix("http://") in ADDRESSES.values()
    exemplars = SOURCES["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert [(e["name"], e["datasourceUid"]) for e in exemplars] == [("trace_id", "tempo")]
    interval = yaml.safe_load(FILES[prometheus.PATH])["global"]["scrape_interval"]
    assert SOURCES["prometheus"]["jsonData"]["timeInterval"] == interval
    (derived,) = SOURCES["loki"]["jsonData"]["derivedFields"]
    line = LineFormat("1.0", "staging").line("info", "hello", {}, "request", TRACE_ID)
    found = re.search(derived["matcherRegex"], line.decode())
    assert found is not None
    assert found[1] == TRACE_ID
    # Grafana takes `$$` for a dollar when it reads this, and `${...}` for the environment's.
    assert derived["url"] == "$${__value.raw}"
    tempo_data = SOURCES["tempo"]["jsonData"]
    assert tempo_data["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert tempo_data["tracesToLogsV2"]["query"].startswith(LINES)
    assert "$${__trace.traceId}" in tempo_data["tracesToLogsV2"]["query"]
    for query in tempo_data["tracesToMetrics"]["queries"]:
        assert asked(query["query"])


def test_grafana_finds_the_dashboards() -> None:
    """The provider's folder is where the compose file mounts them."""
    (provider,) = yaml.safe_load(FILES[grafana.PROVIDER_PATH])["providers"]
    mounts = SERVICES["grafana"]["volumes"]
    assert f"./{dashboards.FOLDER}:{provider['options']['path']}:ro" in mounts
    assert provider["allowUiUpdates"] is False


def test_the_gateway_takes_its_configuration(tmp_path: Path) -> None:
    """As it is, but for where the secrets lie; and it serves what the dashboards ask for."""
    for name in ("gateway_key", "gateway_admin_key"):
        (tmp_path / name).write_text(f"the-{name}-of-this-test-alone")
    (tmp_path / "database_url").write_text("postgresql://radgateway:x@postgres:5432/radgateway")
    file = tmp_path / "gateway.yaml"
    file.write_text(FILES[compose.GATEWAY_PATH].replace("/run/secrets", str(tmp_path)))
    config = load_config(file, {})
    assert config.telemetry.metrics
    assert config.telemetry.key_names_in_metrics
    assert config.telemetry.tracing.enabled
    assert config.telemetry.tracing.otlp_endpoint == ADDRESSES["COLLECTOR_GRPC"]
    mentioned = set(re.findall(r"/run/secrets/(\w+)", FILES[compose.GATEWAY_PATH]))
    assert mentioned == set(SERVICES["gateway"]["secrets"])


def test_the_incident_app_takes_its_configuration(tmp_path: Path) -> None:
    """As it is, but for where the secrets lie; Alertmanager's webhook leads to it."""
    for name in SERVICES["incident"]["secrets"]:
        (tmp_path / name).write_text(f"the-{name}-of-this-test-alone")
    file = tmp_path / "incident.yaml"
    file.write_text(FILES[compose.INCIDENT_PATH].replace("/run/secrets", str(tmp_path)))
    config = load_incident_config(file, {})
    assert config.alertmanager is not None
    assert config.alertmanager.url == f"http://{ADDRESSES['ALERTMANAGER']}"
    assert DEFAULT.contacts.incidents_url == f"http://{ADDRESSES['INCIDENT']}{WEBHOOK}"
    assert SERVICES["incident"]["build"] == SERVICES["gateway"]["build"]


def test_the_gateway_is_the_image_of_this_tree() -> None:
    """Built by the one Dockerfile, and asked by its own command whether it takes work."""
    gateway = SERVICES["gateway"]
    assert (FOLDER / gateway["build"]["context"]).resolve() == ROOT
    dockerfile = ROOT / gateway["build"]["dockerfile"]
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", dockerfile.read_text(), re.MULTILINE)
    check = gateway["healthcheck"]["test"]
    assert check == ["CMD", *json.loads(entry), "health", "--ready"]
    ports = [each.rpartition(":")[2] for each in gateway["ports"]]
    assert ports == re.findall(r"^EXPOSE (\d+)$", dockerfile.read_text(), re.MULTILINE)
