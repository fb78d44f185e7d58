"""The operational dashboard, the on-call view: what is wrong now, and which part is it?"""

from __future__ import annotations

from radgateway.slo.dashboards.board import Board, Row
from radgateway.slo.dashboards.internals import dependencies, process
from radgateway.slo.dashboards.logs import errors_in_the_log
from radgateway.slo.dashboards.panel import BAD, FAIR, GOOD, NEUTRAL, Panel, Query
from radgateway.slo.dashboards.promql import foreign, gauge, quantile, rate, ratio
from radgateway.slo.dashboards.resilience import failover, protection
from radgateway.slo.objectives import Objectives


def operations(objectives: Objectives) -> Board:
    """The dashboard for some objectives."""
    return Board(
        uid="radgateway-operations",
        title="RAD Gateway / Operations",
        reader="For whoever is on call: what is wrong now, since when, and which part is it?",
        since="now-3h",
        refresh="30s",
        rows=(
            Row("At a glance", _glance(objectives)),
            Row("Traffic", _traffic(objectives)),
            Row("Providers and failover", failover()),
            Row("Protection: limits, queue, retry budget", protection()),
            Row("Dependencies and data", dependencies()),
            Row("The process", process()),
            Row("Log", (errors_in_the_log(),)),
        ),
    )


def _glance(objectives: Objectives) -> tuple[Panel, ...]:
    return (
        _stat(
            "Requests",
            "How much is asked of the gateway now.",
            "reqps",
            rate("requests_total"),
        ),
        _stat(
            "Error rate now",
            "Share of requests that are answered with a 5xx.",
            "percentunit",
            ratio("requests_total", "", 'status=~"5.."'),
            ((None, GOOD), (float(objectives.error_rate.budget), FAIR), (0.05, BAD)),
        ),
        _stat(
            "Overhead, p95",
            "Whether the gateway itself is slow; providers are not in it.",
            "s",
            quantile(0.95, "overhead_seconds"),
            ((None, GOOD), (0.1, FAIR), (float(objectives.overhead_p95.limit_s), BAD)),
        ),
        _stat(
            "Breakers open",
            "How many providers are kept away from traffic by at least one instance.",
            "short",
            f"sum({gauge('circuit_breaker_open', 'provider', how='max')})",
            ((None, GOOD), (1.0, BAD)),
        ),
        _stat(
            "Degraded modes",
            "How many declared behaviours for something that is not well are in force.",
            "short",
            f"sum({gauge('degraded_mode', 'dependency, mode', how='max')})",
            ((None, GOOD), (1.0, FAIR)),
        ),
        _stat(
            "Instances",
            "How many gateway processes answer their scrapes.",
            "short",
            f"sum({foreign('up')})",
            ((None, BAD), (1.0, FAIR), (2.0, GOOD)),
        ),
        Panel(
            title="Alerts firing",
            answers="What has been decided to be worth waking somebody; each has a runbook.",
            unit="short",
            queries=(Query(expr=foreign("ALERTS", 'alertstate="firing"')),),
            kind="table",
            width=12,
            height=6,
            nothing="none",
            columns=(
                ("alertname", "Alert"),
                ("priority", "Priority"),
                ("severity", "Severity"),
                ("job", "Job"),
            ),
        ),
        Panel(
            title="Versions that run",
            answers="Whether a deployment is under way, or was when the trouble began.",
            unit="short",
            queries=(
                Query(expr=gauge("build_info", "version, environment"), legend="{{version}}"),
            ),
            kind="table",
            width=12,
            height=6,
            columns=(
                ("version", "Version"),
                ("environment", "Environment"),
                ("Value", "Processes"),
            ),
        ),
    )


def _traffic(objectives: Objectives) -> tuple[Panel, ...]:
    return (
        Panel(
            title="Request rate by route",
            answers="What callers ask for, and whether one route has swelled or gone quiet.",
            unit="reqps",
            queries=(Query(expr=rate("requests_total", "route"), legend="{{route}}"),),
            stacked=True,
        ),
        Panel(
            title="Error rate by status code",
            answers=(
                "Which errors callers get: 4xx are theirs, 429 and 503 are refusals, 502 and 504 "
                "come from providers, 499 are clients that left."
            ),
            guide="runbooks/error-rate-spike",
            unit="reqps",
            queries=(
                Query(
                    expr=rate("requests_total", "status", 'status=~"[45].."'),
                    legend="{{status}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            title="Share of server errors by route",
            answers="Whether all callers are hit or those of one route.",
            unit="percentunit",
            queries=(
                Query(
                    expr=ratio("requests_total", "route", 'status=~"5.."'),
                    legend="{{route}}",
                ),
            ),
            steps=((None, NEUTRAL), (float(objectives.error_rate.budget), BAD)),
        ),
        Panel(
            title="Duration by route, p95",
            answers="Whether answers have become slow. Points are traces: click one.",
            guide="runbooks/latency-investigation",
            unit="s",
            queries=(
                Query(
                    expr=quantile(0.95, "request_duration_seconds", "route"),
                    legend="{{route}}",
                    exemplar=True,
                ),
            ),
            nothing="no requests",
        ),
        Panel(
            title="Time to first byte of streams, p95",
            answers="Whether streams have become slow to begin. Points are traces.",
            unit="s",
            queries=(
                Query(
                    expr=quantile(0.95, "time_to_first_token_seconds", "route"),
                    legend="{{route}}",
                    exemplar=True,
                ),
            ),
            nothing="no streams",
        ),
        Panel(
            title="Overhead by route",
            answers="Whether it is the gateway that is slow, and not a provider.",
            unit="s",
            queries=(
                Query(
                    expr=quantile(0.99, "overhead_seconds", "route"),
                    legend="{{route}} p99",
                ),
            ),
            nothing="no requests",
        ),
        Panel(
            title="Active connections",
            answers="Requests under way, streams included; a climb without traffic is a stall.",
            unit="short",
            queries=(Query(expr=gauge("active_connections", "instance"), legend="{{instance}}"),),
        ),
        Panel(
            title="Answers broken off",
            answers="Responses cut after they had begun; their status was sent as a 200.",
            unit="reqps",
            queries=(Query(expr=rate("responses_interrupted_total", "route"), legend="{{route}}"),),
            nothing="none",
        ),
        Panel(
            title="Refused for their credentials",
            answers="Wrong or missing keys and tokens: a client's rollout, or somebody guessing.",
            unit="reqps",
            queries=(Query(expr=rate("auth_failures_total", "reason"), legend="{{reason}}"),),
        ),
    )


def _stat(
    title: str,
    answers: str,
    unit: str,
    expr: str,
    steps: tuple[tuple[float | None, str], ...] = (),
) -> Panel:
    return Panel(
        title=title,
        answers=answers,
        unit=unit,
        queries=(Query(expr=expr),),
        kind="stat",
        width=4,
        height=4,
        steps=steps,
    )
