"""The real Prometheus with the generated rules, scraping a real gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import started
from slo.hurried import evaluated_often
from slo.prometheus_server import prometheus
from slo.questions import answered, of_records
from slo.waiting import until

from radgateway.slo.alerts import alerts
from radgateway.slo.pack import artefacts
from radgateway.slo.settings import Settings

pytestmark = [pytest.mark.servers, pytest.mark.slow]
CHAT = "/v1/chat/completions"
STREAM = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
}


def test_every_rule_is_evaluated_on_what_the_gateway_measures(tmp_path: Path) -> None:
    """No rule fails at run time, every ratio of a served request is there, and it alarms nobody."""
    (tmp_path / "gateway").mkdir()
    (tmp_path / "prometheus").mkdir()
    with started(["-m", "radgateway", "serve", "--port", "0"], tmp_path / "gateway") as process:
        url = process.wait_for(r" on (http://\S+)")[1]
        headers = {"x-api-key": process.wait_for(r"^API key: (\S+)$")[1]}
        process.wait_for("Application startup complete")
        rules = evaluated_often(artefacts())
        with (
            prometheus(tmp_path / "prometheus", url.removeprefix("http://"), rules) as watcher,
            httpx.Client(timeout=5) as client,
        ):

            def value(query: str) -> Any:
                # Traffic for as long as anybody waits: a rate needs two scrapes.
                assert client.post(url + CHAT, json=STREAM, headers=headers).is_success
                return watcher.query(query)

            questions = of_records()
            records = len(questions)
            until(lambda: answered(value, questions), questions)

            def evaluated() -> Any:
                found = [
                    rule for group in watcher.get("rules")["groups"] for rule in group["rules"]
                ]
                return found if all(rule["health"] != "unknown" for rule in found) else None

            found = until(evaluated, "every rule is evaluated")
            assert [rule for rule in found if rule["health"] != "ok"] == []
            assert len(found) == records + len(alerts(Settings()))
            assert watcher.firing() == {"Watchdog"}
