"""Every metric of the gateway, declared once: name, type, labels, buckets, and what it means.

The names and labels of the first group are the operations strategy's (its 2.2 and 5.1) and part
of the contract with dashboards and alerts.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from prometheus_client import Histogram

BUCKETS: Final = tuple(
    sorted((*(b for b in Histogram.DEFAULT_BUCKETS if b < 1e9), 0.8, 1.2, 2.0, 20.0, 40.0, 80.0))
)
"""Seconds: the client library's defaults, and the edges the strategy's thresholds need."""

_LIMITS: Final = (
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "money",
    "budget",
    "concurrency",
)
LIMITED: Final = (*_LIMITS, *(f"shadow_{kind}" for kind in _LIMITS))
"""What a request can be refused for by a limit; `shadow_` where it would have been."""
AUTH_FAILURES: Final = (
    "missing_api_key",
    "invalid_api_key",
    "admin_key_required",
    "invalid_token",
    "token_expired",
    "token_not_yet_valid",
)
RELOAD_OUTCOMES: Final = ("applied", "unchanged", "invalid", "needs_restart", "failed")
"""What becomes of a reload; only the first two leave the file and what is in force the same."""
CONNECTION_STATES: Final = ("in_use", "idle")
HEDGE_OUTCOMES: Final = ("won", "lost", "failed", "abandoned")
SECRETS_OUTCOMES: Final = ("unchanged", "rotated", "refused", "failed")
"""What a look at the secrets comes to: changes are put in force or not; the store does not answer.
"""
TOKEN_TYPES: Final = ("input", "output", "cached_input", "reasoning_output")
"""Kinds of tokens; those cached are among the input, those of reasoning among the output."""
SHED_REASONS: Final = ("queue_full", "displaced", "queue_timeout", "client_deadline", "loop_lag")


class Declared(NamedTuple):
    """One metric. `across` says how the gauges of several worker processes become one."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    across: Literal["livesum", "livemax", "livemin"] = "livesum"


METRICS: Final[dict[str, Declared]] = {
    metric.name.removeprefix("rad_gateway_"): metric
    for metric in (
        # the strategy's
        Declared(
            "rad_gateway_requests_total",
            "counter",
            ("route", "method", "status"),
            "Requests answered; status 499 where the client went away.",
        ),
        Declared(
            "rad_gateway_request_duration_seconds",
            "histogram",
            ("route",),
            "Seconds from a request's arrival to its response's last byte.",
        ),
        Declared(
            "rad_gateway_provider_requests_total",
            "counter",
            ("provider", "model", "status"),
            "Attempts at providers, by the status each came to.",
        ),
        Declared(
            "rad_gateway_provider_latency_seconds",
            "histogram",
            ("provider",),
            "Seconds from an attempt's start to the response's last byte.",
        ),
        Declared(
            "rad_gateway_failover_attempts_total",
            "counter",
            ("source_provider", "target_provider", "reason"),
            "Attempts made because the one before, at another candidate, failed.",
        ),
        Declared(
            "rad_gateway_retry_budget_exhausted_total",
            "counter",
            (),
            "Requests that were not tried again because the retry budget was spent.",
        ),
        Declared(
            "rad_gateway_tokens_consumed_total",
            "counter",
            ("model", "api_key_name"),
            "Input and output tokens of all attempts; the key's name only where configured.",
        ),
        Declared("rad_gateway_active_connections", "gauge", (), "Requests under way."),
        Declared("rad_gateway_queue_depth", "gauge", (), "Requests waiting for admission."),
        # ours
        Declared(
            "rad_gateway_time_to_first_token_seconds",
            "histogram",
            ("route",),
            "Seconds from a streaming request's arrival to its response's first byte.",
        ),
        Declared(
            "rad_gateway_overhead_seconds",
            "histogram",
            ("route",),
            "Seconds a request spent in the gateway itself: all but the waiting for providers.",
        ),
        Declared(
            "rad_gateway_circuit_breaker_open",
            "gauge",
            ("provider",),
            "1 while the provider's circuit breaker is open and keeps callers away.",
            "livemax",
        ),
        Declared(
            "rad_gateway_circuit_breaker_state",
            "gauge",
            ("provider", "state"),
            "1 for the state the provider's circuit breaker is in.",
            "livemax",
        ),
        Declared(
            "rad_gateway_circuit_breaker_mode",
            "gauge",
            ("provider", "mode"),
            "1 for the mode the provider's circuit breaker was set to.",
            "livemax",
        ),
        Declared(
            "rad_gateway_circuit_breaker_held",
            "gauge",
            ("provider",),
            "1 while the breaker would open, were it not the last of its model's providers.",
            "livemax",
        ),
        Declared(
            "rad_gateway_circuit_breaker_refused_total",
            "counter",
            ("provider", "reason"),
            "Calls that the provider's circuit breaker did not admit.",
        ),
        Declared(
            "rad_gateway_circuit_breaker_would_refuse_total",
            "counter",
            ("provider",),
            "Calls that a breaker set to metrics_only admitted and otherwise would not have.",
        ),
        Declared(
            "rad_gateway_provider_healthy",
            "gauge",
            ("provider",),
            "1 while the provider is taken for healthy.",
            "livemin",
        ),
        Declared(
            "rad_gateway_dependency_available",
            "gauge",
            ("dependency",),
            "1 while what the gateway depends on does its work.",
            "livemin",
        ),
        Declared(
            "rad_gateway_degraded_mode",
            "gauge",
            ("dependency", "mode"),
            "1 while the behaviour declared for a dependency that is not well is in force.",
            "livemax",
        ),
        Declared(
            "rad_gateway_faults_injected_total",
            "counter",
            ("provider", "fault"),
            "Requests to a provider that were spoiled on purpose.",
        ),
        Declared(
            "rad_gateway_faults_armed",
            "gauge",
            ("provider",),
            "1 while faults are armed for it by an admin.",
            "livemax",
        ),
        Declared(
            "rad_gateway_retries_total",
            "counter",
            ("provider", "reason"),
            "Attempts made at a candidate because the one before, at the same, failed.",
        ),
        Declared(
            "rad_gateway_hedges_total",
            "counter",
            ("outcome",),
            "Attempts made beside one that was late, by what became of them.",
        ),
        Declared(
            "rad_gateway_retry_budget_balance",
            "gauge",
            (),
            "Further attempts that the retry budget would pay for now.",
        ),
        Declared(
            "rad_gateway_rate_limited_total",
            "counter",
            ("reason",),
            "Requests refused by a limit, by its kind; shadow_ where it only reports.",
        ),
        Declared(
            "rad_gateway_limits_storage_available",
            "gauge",
            (),
            "1 while the storage of the limits answers.",
            "livemin",
        ),
        Declared(
            "rad_gateway_limit_settlements_lost_total",
            "counter",
            (),
            "Charges never corrected to what was used, since the storage was away for too long.",
        ),
        Declared(
            "rad_gateway_auth_failures_total",
            "counter",
            ("reason",),
            "Requests refused for their credentials.",
        ),
        Declared(
            "rad_gateway_cost_usd_total",
            "counter",
            ("provider", "model"),
            "US dollars of the attempts whose cost is known.",
        ),
        Declared(
            "rad_gateway_responses_interrupted_total",
            "counter",
            ("route",),
            "Responses that had begun and were broken off; their status had gone out by then.",
        ),
        Declared(
            "rad_gateway_key_requests_total",
            "counter",
            ("api_key_name", "outcome"),
            "Requests by the key's name and how they ended, where names may show in metrics.",
        ),
        Declared(
            "rad_gateway_provider_tokens_total",
            "counter",
            ("provider", "model", "type"),
            "Tokens of all attempts that are known, by kind: input and output, and cached input "
            "and reasoning output within them.",
        ),
        Declared(
            "rad_gateway_memory_limit_bytes",
            "gauge",
            (),
            "Bytes of memory the process may use: the container's limit, else the machine's.",
            "livemin",
        ),
        Declared(
            "rad_gateway_db_connections",
            "gauge",
            ("state",),
            "Connections to the usage database: in_use or idle.",
        ),
        Declared(
            "rad_gateway_db_connections_max",
            "gauge",
            (),
            "Connections to the usage database there may be at once.",
        ),
        Declared(
            "rad_gateway_event_loop_lag_seconds",
            "gauge",
            (),
            "The longest the event loop was late within the last sampling period.",
            "livemax",
        ),
        Declared(
            "rad_gateway_load_shed_total",
            "counter",
            ("reason",),
            "Requests turned away before any work was done for them.",
        ),
        Declared(
            "rad_gateway_concurrency_limit",
            "gauge",
            ("provider",),
            "Calls that may be in progress at the provider at once.",
        ),
        Declared("rad_gateway_asyncio_tasks", "gauge", (), "Tasks of the event loop."),
        Declared(
            "rad_gateway_usage_records_lost_total",
            "counter",
            (),
            "Usage rows that never reached the ledger.",
        ),
        Declared(
            "rad_gateway_secrets_age_seconds",
            "gauge",
            (),
            "Since the secrets store was last read; 0 where no secret is in one.",
            "livemax",
        ),
        Declared(
            "rad_gateway_secrets_refreshes_total",
            "counter",
            ("outcome",),
            "Readings of the secrets store, and changes of secrets.",
        ),
        Declared("rad_gateway_log_lines_dropped_total", "counter", (), "Log lines not written."),
        Declared(
            "rad_gateway_config_reloads_total",
            "counter",
            ("outcome",),
            "Reloads of the configuration: applied, unchanged, invalid, needs_restart or failed.",
        ),
        Declared(
            "rad_gateway_config_last_reload_successful",
            "gauge",
            (),
            "1 while the last configuration that was read is in force, else 0.",
            "livemin",
        ),
        Declared(
            "rad_gateway_config_last_reload_success_timestamp_seconds",
            "gauge",
            (),
            "When a configuration was last read and found to be, or put, in force; Unix time.",
            "livemin",
        ),
        Declared(
            "rad_gateway_build_info",
            "gauge",
            ("version", "environment"),
            "1, with the version and environment that run.",
            "livemax",
        ),
    )
}
"""All metrics, by their name without the prefix."""
