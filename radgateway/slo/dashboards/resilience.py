"""Panels of what keeps failures small: breakers, failover, limits, queue, retry budget."""

from __future__ import annotations

from radgateway.slo.dashboards.panel import BAD, FAIR, GOOD, Panel, Query
from radgateway.slo.dashboards.promql import gauge, rate
from radgateway.slo.rules import PROVIDER_BAD


def failover() -> tuple[Panel, ...]:
    """Who is well, who is kept away, and where their requests went."""
    half_open = gauge("circuit_breaker_state", "provider", 'state="half_open"', "max")
    opened = gauge("circuit_breaker_state", "provider", 'state="open"', "max")
    by_hand = gauge("circuit_breaker_mode", "provider, mode", 'mode!="auto"', "max")
    return (
        Panel(
            title="Provider health",
            answers=(
                "Who is taken for healthy by all instances: circuit closed, most attempts "
                "succeed, probes answered."
            ),
            unit="short",
            queries=(
                Query(expr=gauge("provider_healthy", "provider", how="min"), legend="{{provider}}"),
            ),
            kind="state-timeline",
            guide="runbooks/provider-failure",
            words=((0, "unhealthy", BAD), (1, "healthy", GOOD)),
        ),
        Panel(
            title="Circuit breakers",
            answers=(
                "Who is kept away from traffic. Half open: a few calls are let through to see. The "
                "worst instance counts."
            ),
            unit="short",
            queries=(Query(expr=f"{half_open} + 2 * {opened}", legend="{{provider}}"),),
            kind="state-timeline",
            guide="runbooks/circuit-breaker",
            words=((0, "closed", GOOD), (1, "half open", FAIR), (2, "open", BAD), (3, "open", BAD)),
        ),
        Panel(
            title="Breakers set by hand or held",
            answers=(
                "Which breakers an admin has isolated, disabled or set to only report, and which "
                "would be open were they not the last of their model's providers."
            ),
            unit="short",
            queries=(
                Query(
                    expr=f"{by_hand} > 0",
                    legend="{{provider}}: {{mode}}",
                ),
                Query(
                    expr=f"{gauge('circuit_breaker_held', 'provider', how='max')} > 0",
                    legend="{{provider}}: held",
                ),
            ),
            nothing="none",
        ),
        Panel(
            title="Failed attempts by provider",
            answers="Who fails, whether or not another provider saved the request.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate(
                        "provider_requests_total",
                        "provider, status",
                        f'status=~"{PROVIDER_BAD}"',
                    ),
                    legend="{{provider}} {{status}}",
                ),
            ),
            nothing="none",
        ),
        Panel(
            title="Failover frequency",
            answers="From whom to whom requests were moved because an attempt failed.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate("failover_attempts_total", "source_provider, target_provider"),
                    legend="{{source_provider}} to {{target_provider}}",
                ),
            ),
            guide="components/router",
            nothing="none",
        ),
        Panel(
            title="Why requests were moved",
            answers="The failures that led to another provider, by their code.",
            unit="reqps",
            queries=(Query(expr=rate("failover_attempts_total", "reason"), legend="{{reason}}"),),
            nothing="none",
        ),
        Panel(
            title="Retries",
            answers="Further attempts at the same candidate, by what the one before died of.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate("retries_total", "provider, reason"),
                    legend="{{provider}}: {{reason}}",
                ),
            ),
            guide="components/retry-budget",
            nothing="none",
        ),
        Panel(
            title="Hedges",
            answers="Attempts beside a late one: those that lost are money spent for nothing.",
            unit="reqps",
            queries=(Query(expr=rate("hedges_total", "outcome"), legend="{{outcome}}"),),
        ),
        Panel(
            title="Calls not admitted by a breaker",
            answers="What breakers turned away, and what those that only report would have.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate("circuit_breaker_refused_total", "provider, reason"),
                    legend="{{provider}}: {{reason}}",
                ),
                Query(
                    expr=rate("circuit_breaker_would_refuse_total", "provider"),
                    legend="{{provider}}: would have",
                ),
            ),
        ),
    )


def protection() -> tuple[Panel, ...]:
    """What was refused or not tried again, so that the rest is served."""
    return (
        Panel(
            title="Retry budget",
            answers=(
                "How many further attempts could be paid for now. At zero, failures are passed on "
                "instead of being multiplied."
            ),
            unit="short",
            queries=(Query(expr=gauge("retry_budget_balance", "instance"), legend="{{instance}}"),),
            guide="explanation/retry-budgets",
        ),
        Panel(
            title="Requests the retry budget gave up on",
            answers="Requests that failed without another try because the budget was spent.",
            unit="reqps",
            queries=(
                Query(expr=rate("retry_budget_exhausted_total", "instance"), legend="{{instance}}"),
            ),
        ),
        Panel(
            title="Requests refused by limits",
            answers=(
                "Which kind of limit refuses callers; shadow_ ones only report what they would."
            ),
            unit="reqps",
            queries=(Query(expr=rate("rate_limited_total", "reason"), legend="{{reason}}"),),
            guide="components/rate-limiter",
        ),
        Panel(
            title="Queue depth",
            answers="Requests waiting for a place. Steady and above zero means too few instances.",
            unit="short",
            queries=(Query(expr=gauge("queue_depth", "instance"), legend="{{instance}}"),),
            guide="components/admission-queue",
        ),
        Panel(
            title="Load shed",
            answers="Work turned away before it began, by why: the gateway protects itself.",
            unit="reqps",
            queries=(Query(expr=rate("load_shed_total", "reason"), legend="{{reason}}"),),
        ),
        Panel(
            title="Places at providers",
            answers="How many calls may be at a provider at once; adaptive limits move.",
            unit="short",
            queries=(Query(expr=gauge("concurrency_limit", "provider"), legend="{{provider}}"),),
            guide="components/bulkhead",
            nothing="no limits",
        ),
    )
