from __future__ import annotations

from radgateway import create_gateway, describe

KEY = {"name": "k", "secret": "key-1"}
FULL = {
    "keys": [KEY],
    "providers": {
        "real": {"kind": "openai", "base_url": "http://127.0.0.1:1", "faults": {"latency_ms": 1}},
        "mock": {"kind": "mock"},
    },
    "models": {"m": {"candidates": [{"provider": "real"}, {"provider": "mock"}]}},
    "storage": {"usage": "memory://"},
    "keepalive": {},
}


def test_the_stack_stands_in_the_order_of_the_design() -> None:
    """Who is outside of whom decides what is counted, refused and retried: it is a contract."""
    order = describe(create_gateway(FULL))
    assert order.names == (
        "Gateway",
        "RequestContextMiddleware",
        "TracingMiddleware",
        "MetricsMiddleware",
        "DrainGuard",
        "ApiKeyAuth",
        "RateLimiter",
        "UsageRecorder",
        "AdmissionQueue",
        "StreamKeepalive",
        "RetryBudget",
        "ProviderRouter",
    )
    assert {name: branch.names for name, branch in order.branches.items()} == {
        "real": ("CircuitBreaker", "Bulkhead", "Deadline", "FaultInjector", "HTTPProvider"),
        "mock": ("CircuitBreaker", "Bulkhead", "Deadline", "MockProvider"),
    }


def test_what_is_turned_off_is_left_out() -> None:
    """A layer that does nothing is not there, rather than there and off."""
    config = {
        **FULL,
        "keys": [],
        "admission": None,
        "keepalive": None,
        "providers": {"mock": {"kind": "mock", "breaker": None, "max_concurrency": None}},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
    }
    order = describe(create_gateway(config))
    assert not {"ApiKeyAuth", "AdmissionQueue", "StreamKeepalive"} & set(order.names)
    assert order.branches["mock"].names == ("Deadline", "MockProvider")
