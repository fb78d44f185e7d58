"""Names, labels and buckets are a contract; label values are bounded."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from radgateway.telemetry.declared import BUCKETS, METRICS
from radgateway.telemetry.instruments import (
    SERIES_LIMIT,
    Instruments,
    LabelSets,
    status_label,
)

STRATEGY = {
    "rad_gateway_requests_total": ("route", "method", "status"),
    "rad_gateway_request_duration_seconds": ("route",),
    "rad_gateway_provider_requests_total": ("provider", "model", "status"),
    "rad_gateway_provider_latency_seconds": ("provider",),
    "rad_gateway_failover_attempts_total": ("source_provider", "target_provider", "reason"),
    "rad_gateway_retry_budget_exhausted_total": (),
    "rad_gateway_tokens_consumed_total": ("model", "api_key_name"),
    "rad_gateway_active_connections": (),
    "rad_gateway_queue_depth": (),
}


def value(instruments: Instruments, name: str, **labels: str) -> float | None:
    """A sample's value."""
    return instruments.registry.get_sample_value(name, labels)


def test_the_strategys_metrics_are_there_with_its_labels() -> None:
    """Dashboards and alerts are written against exactly these."""
    declared = {metric.name: metric.labels for metric in METRICS.values()}
    assert {name: declared[name] for name in STRATEGY} == STRATEGY


def test_the_buckets_have_the_thresholds_edges() -> None:
    """The library's defaults and the strategy's thresholds, in order."""
    assert tuple(sorted(BUCKETS)) == BUCKETS
    assert {0.005, 0.8, 1.0, 1.2, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0} <= set(BUCKETS)


def test_what_is_known_starts_at_zero() -> None:
    """`increase()` needs the series to be there before the first event."""
    made = Instruments(labels=LabelSets(providers=frozenset({"openai"})))
    route = {"route": "/v1/chat/completions", "method": "POST"}
    assert value(made, "rad_gateway_requests_total", status="500", **route) == 0
    assert value(made, "rad_gateway_retry_budget_exhausted_total") == 0
    assert value(made, "rad_gateway_usage_records_lost_total") == 0
    assert value(made, "rad_gateway_auth_failures_total", reason="invalid_api_key") == 0
    assert value(made, "rad_gateway_circuit_breaker_open", provider="openai") == 0
    assert value(made, "rad_gateway_provider_healthy", provider="openai") == 1
    assert value(made, "rad_gateway_responses_interrupted_total", route=route["route"]) == 0
    assert (value(made, "rad_gateway_memory_limit_bytes") or 0) > 0


def test_candidates_start_at_zero_within_a_bound() -> None:
    """A first error is an increase; however many there are, room is left for other statuses."""
    few = LabelSets(
        providers=frozenset({"p"}), models=frozenset({"m"}), candidates=frozenset({("p", "m")})
    )
    labels = {"provider": "p", "model": "m"}
    made = Instruments(labels=few)
    assert value(made, "rad_gateway_provider_requests_total", status="503", **labels) == 0
    assert value(made, "rad_gateway_provider_tokens_total", type="input", **labels) == 0
    assert value(made, "rad_gateway_cost_usd_total", **labels) == 0
    names = frozenset(f"m{number}" for number in range(3_000))
    many = LabelSets(
        providers=frozenset({"p"}),
        models=names,
        candidates=frozenset(("p", name) for name in names),
        api_key_names=names,
    )
    made = Instruments(labels=many)
    text = generate_latest(made.registry).decode()
    for name in ("provider_requests_total", "key_requests_total"):
        assert 0 < text.count(f"rad_gateway_{name}{{") <= SERIES_LIMIT // 4


def test_unknown_label_values_become_other() -> None:
    """Ten thousand names nobody configured are one series."""
    made = Instruments(labels=LabelSets(providers=frozenset({"a"}), models=frozenset({"m"})))
    for index in range(10_000):
        made.provider_requests("a", f"model-{index}", "200").inc()
        made.requests(f"/path/{index}", f"M{index}", "200").inc()
    assert (
        value(
            made,
            "rad_gateway_provider_requests_total",
            provider="a",
            model="other",
            status="200",
        )
        == 10_000
    )
    assert (
        value(made, "rad_gateway_requests_total", route="other", method="other", status="200")
        == 10_000
    )


def test_a_label_without_a_set_is_bounded_all_the_same() -> None:
    """However many reasons some component invents, the series have a limit."""
    made = Instruments()
    for index in range(SERIES_LIMIT * 2):
        made.rate_limited(f"reason-{index}").inc()
    lines = generate_latest(made.registry).decode().splitlines()
    series = [line for line in lines if line.startswith("rad_gateway_rate_limited_total{")]
    assert len(series) <= SERIES_LIMIT + 1
    counted = value(made, "rad_gateway_rate_limited_total", reason="other")
    assert counted is not None
    assert counted >= SERIES_LIMIT


@pytest.mark.parametrize(
    ("status", "label"), [(200, "200"), (499, "499"), (529, "529"), (598, "5xx"), (299, "2xx")]
)
def test_statuses_are_a_closed_set(status: int, label: str) -> None:
    """An unheard-of status is its class, which still matches an alert's `5..`."""
    assert status_label(status) == label


def test_key_names_show_only_where_configured() -> None:
    """Without names there is no label value, whoever asks."""
    silent = Instruments(labels=LabelSets(models=frozenset({"m"})))
    silent.tokens("m", "").inc(5)
    assert value(silent, "rad_gateway_tokens_consumed_total", model="m", api_key_name="") == 5


def test_a_breakers_state_is_one_of_three() -> None:
    """Exactly one state is 1, and open is what the alert reads."""
    made = Instruments(labels=LabelSets(providers=frozenset({"a"})))
    for state, is_open in (("open", 1), ("half-open", 0), ("closed", 0)):
        made.breaker_changed("a", state)
        assert value(made, "rad_gateway_circuit_breaker_open", provider="a") == is_open
        states = [
            value(made, "rad_gateway_circuit_breaker_state", provider="a", state=each)
            for each in ("closed", "open", "half_open")
        ]
        assert sorted(states, key=str) == [0, 0, 1]


def test_apps_do_not_share_metrics() -> None:
    """Two apps in one process have a registry each; a host may give its own."""
    one, other = Instruments(), Instruments()
    one.queue_depth.set(3)
    assert value(other, "rad_gateway_queue_depth") == 0
    registry = CollectorRegistry()
    assert Instruments(registry).registry is registry


def test_the_process_is_measured_too() -> None:
    """Saturation: memory and garbage collection, as the strategy's golden signals ask."""
    names = {
        family.name
        for family in text_string_to_metric_families(
            generate_latest(Instruments().registry).decode()
        )
    }
    assert "process_resident_memory_bytes" in names
    assert "python_gc_collections" in names


def test_names_come_and_go() -> None:
    """New ones begin at 0, those that stay keep their counts, those that go take series along."""
    before = LabelSets(
        providers=frozenset({"stays", "goes"}),
        models=frozenset({"m"}),
        candidates=frozenset({("stays", "m"), ("goes", "m")}),
    )
    after = LabelSets(
        providers=frozenset({"stays", "comes"}),
        models=frozenset({"m"}),
        candidates=frozenset({("stays", "m"), ("comes", "m")}),
        api_key_names=frozenset({"ann"}),
    )
    instruments = Instruments(CollectorRegistry(), labels=before)
    instruments.provider_requests("stays", "m", "200").inc(3)
    instruments.breaker_changed("stays", "open")
    instruments.dependency_available("provider:goes").set(0)
    instruments.widen(after)
    name = "rad_gateway_provider_requests_total"
    assert value(instruments, name, provider="comes", model="m", status="200") == 0
    assert value(instruments, name, provider="stays", model="m", status="200") == 3
    assert value(instruments, "rad_gateway_circuit_breaker_open", provider="stays") == 1
    instruments.provider_requests("goes", "m", "200").inc()
    assert value(instruments, name, provider="goes", model="m", status="200") == 1
    instruments.narrow(after)
    text = generate_latest(instruments.registry).decode()
    assert "goes" not in text
    assert value(instruments, name, provider="stays", model="m", status="200") == 3
    instruments.provider_requests("goes", "m", "200").inc()
    assert value(instruments, name, provider="other", model="m", status="200") == 1
    assert 'key_requests_total{api_key_name="ann"' in text
