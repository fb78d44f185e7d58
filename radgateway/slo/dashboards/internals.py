"""Panels of what the gateway stands on: its dependencies, its data, its process."""

from __future__ import annotations

from radgateway.slo.dashboards.panel import BAD, FAIR, GOOD, NEUTRAL, Panel, Query
from radgateway.slo.dashboards.promql import OF, RATE, foreign, gauge, grown, rate

_YES_NO = ((0, "no", BAD), (1, "yes", GOOD))


def dependencies() -> tuple[Panel, ...]:
    """What is down, what is done instead, and whether anything was lost."""
    return (
        Panel(
            title="Dependencies available",
            answers="Which thing that the gateway depends on is down for at least one instance.",
            unit="short",
            queries=(
                Query(
                    expr=gauge("dependency_available", "dependency", how="min"),
                    legend="{{dependency}}",
                ),
            ),
            kind="state-timeline",
            words=_YES_NO,
        ),
        Panel(
            title="Degraded modes in force",
            answers="What the gateway does instead while a dependency is not well.",
            unit="short",
            queries=(
                Query(
                    expr=f"{gauge('degraded_mode', 'dependency, mode', how='max')} > 0",
                    legend="{{dependency}}: {{mode}}",
                ),
            ),
            guide="explanation/degraded-modes",
            nothing="none",
        ),
        Panel(
            title="Storage of the limits",
            answers="Whether shared limits are counted at all.",
            unit="short",
            queries=(
                Query(
                    expr=gauge("limits_storage_available", "instance", how="min"),
                    legend="{{instance}}",
                ),
            ),
            kind="state-timeline",
            words=_YES_NO,
        ),
        Panel(
            title="Database connections",
            answers="How near the pool is to its end. At its end rows wait, requests do not.",
            guide="runbooks/database",
            unit="short",
            queries=(
                Query(expr=gauge("db_connections", "state"), legend="{{state}}"),
                Query(expr=gauge("db_connections_max"), legend="most there may be"),
            ),
            nothing="no pool",
        ),
        Panel(
            title="Age of the secrets",
            answers="Since the secrets store was last read. It should not outgrow refresh_s.",
            unit="s",
            queries=(
                Query(
                    expr=gauge("secrets_age_seconds", "instance", how="max"), legend="{{instance}}"
                ),
            ),
            guide="runbooks/secrets",
        ),
        Panel(
            title="Secrets looked after",
            answers="Whether changes came into force, and readings of the store failed.",
            unit="short",
            queries=(
                Query(expr=rate("secrets_refreshes_total", "outcome"), legend="{{outcome}}/s"),
            ),
            guide="how-to/secrets",
        ),
        Panel(
            title="Usage rows lost",
            answers="Rows that never reached the ledger in the time shown. Zero is the promise.",
            unit="short",
            queries=(
                Query(expr=grown("usage_records_lost_total", "instance"), legend="{{instance}}"),
            ),
            kind="stat",
            width=4,
            steps=((None, GOOD), (1.0, BAD)),
        ),
        Panel(
            title="Log lines dropped",
            answers="Lines not written because whoever reads the output did not keep up.",
            unit="short",
            queries=(
                Query(expr=grown("log_lines_dropped_total", "instance"), legend="{{instance}}"),
            ),
            kind="stat",
            width=4,
            steps=((None, GOOD), (1.0, FAIR)),
        ),
        Panel(
            title="Settlements lost",
            answers="Charges against limits that were never corrected to what was used.",
            unit="short",
            queries=(
                Query(
                    expr=grown("limit_settlements_lost_total", "instance"), legend="{{instance}}"
                ),
            ),
            kind="stat",
            width=4,
            steps=((None, GOOD), (1.0, FAIR)),
        ),
        Panel(
            title="Faults injected on purpose",
            answers="Whether somebody is trying something: armed providers and spoiled requests.",
            unit="short",
            queries=(
                Query(
                    expr=f"{gauge('faults_armed', 'provider', how='max')} > 0",
                    legend="{{provider}} armed",
                ),
                Query(
                    expr=rate("faults_injected_total", "provider, fault"),
                    legend="{{provider}} {{fault}}/s",
                ),
            ),
            guide="how-to/game-day",
            width=12,
            nothing="none",
        ),
        Panel(
            title="Configuration in force",
            answers="Whether the last configuration that an instance has read is in force.",
            unit="short",
            queries=(
                Query(
                    expr=gauge("config_last_reload_successful", "instance", how="min"),
                    legend="{{instance}}",
                ),
            ),
            kind="state-timeline",
            guide="how-to/reload",
            words=_YES_NO,
        ),
        Panel(
            title="Reloads",
            answers="What became of the reloads in the time shown.",
            unit="short",
            queries=(Query(expr=grown("config_reloads_total", "outcome"), legend="{{outcome}}"),),
            kind="stat",
            guide="how-to/reload",
        ),
        Panel(
            title="Configuration loaded",
            answers="How long ago an instance last found, or put, its configuration in force.",
            unit="s",
            queries=(
                Query(
                    expr="time() - "
                    + gauge("config_last_reload_success_timestamp_seconds", "instance", how="min"),
                    legend="{{instance}}",
                ),
            ),
            guide="how-to/reload",
        ),
    )


def process() -> tuple[Panel, ...]:
    """Whether a process is short of time, memory or descriptors."""
    return (
        Panel(
            title="Event loop lag",
            answers=(
                "How late the loop was at worst. Over a tenth of a second something blocks it, and "
                "every request pays."
            ),
            unit="s",
            queries=(
                Query(
                    expr=gauge("event_loop_lag_seconds", "instance", how="max"),
                    legend="{{instance}}",
                ),
            ),
            steps=((None, NEUTRAL), (0.1, FAIR), (0.25, BAD)),
        ),
        Panel(
            title="Memory used",
            answers="Share of the memory it may use; the alert fires at 80 %.",
            guide="runbooks/capacity",
            unit="percentunit",
            queries=(
                Query(
                    expr=(
                        f"sum by (instance) ({foreign('process_resident_memory_bytes')})"
                        f" / {gauge('memory_limit_bytes', 'instance', how='min')}"
                    ),
                    legend="{{instance}}",
                ),
            ),
            most=1,
            steps=((None, NEUTRAL), (0.8, BAD)),
        ),
        Panel(
            title="Processor time",
            answers="Cores in use. A worker is one core: near 1 each, add workers or instances.",
            unit="short",
            queries=(
                Query(
                    expr=f"sum by (instance) (rate(process_cpu_seconds_total{{{OF}}}[{RATE}]))",
                    legend="{{instance}}",
                ),
            ),
        ),
        Panel(
            title="Tasks",
            answers="Tasks of the event loop. A climb that outlasts its traffic is a leak.",
            unit="short",
            queries=(Query(expr=gauge("asyncio_tasks", "instance"), legend="{{instance}}"),),
        ),
        Panel(
            title="Open files",
            answers="Share of the file descriptors in use; each connection takes one.",
            unit="percentunit",
            queries=(
                Query(
                    expr=(
                        f"sum by (instance) ({foreign('process_open_fds')})"
                        f" / sum by (instance) ({foreign('process_max_fds')})"
                    ),
                    legend="{{instance}}",
                ),
            ),
            most=1,
            steps=((None, NEUTRAL), (0.8, BAD)),
        ),
        Panel(
            title="Running since",
            answers="Whether an instance has restarted, as a crash or a kill for memory makes it.",
            unit="s",
            queries=(
                Query(
                    expr=f"time() - min by (instance) ({foreign('process_start_time_seconds')})",
                    legend="{{instance}}",
                ),
            ),
        ),
    )
