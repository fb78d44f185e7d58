"""Every query of the dashboards, asked of a real Prometheus that scrapes a real gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
from slo.asked_series import VARIABLES
from slo.hurried import evaluated_often
from slo.live_gateway import Callers, live_gateway
from slo.prometheus_server import prometheus
from slo.questions import POOLED, answered, of_dashboards
from slo.waiting import until

from radgateway.slo.pack import artefacts

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def test_every_query_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is refused, and each has data where the gateway shows what it asks for."""
    monkeypatch.setitem(VARIABLES, "$__rate_interval", "10s")
    monkeypatch.setitem(VARIABLES, "$__range", "1m")
    rules = evaluated_often(artefacts())
    questions = {expr: title for expr, title in of_dashboards().items() if title not in POOLED}
    with (
        live_gateway(tmp_path) as (_, url),
        prometheus(tmp_path, url.removeprefix("http://"), rules) as watcher,
        Callers(url),
    ):
        until(lambda: answered(watcher.query, questions), questions)
