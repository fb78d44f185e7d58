"""The panels that read the log: what would need too many series as a metric.

The collector sends each line as it was written, so `json` finds the fields of the log's schema:
`level`, `message`, and those below `fields` with that name before them.
"""

from __future__ import annotations

from typing import Final

from radgateway.slo.dashboards.panel import Panel, Query
from radgateway.telemetry.logs import SERVICE
from radgateway.telemetry.request_log import MESSAGE

LINES: Final = f'{{service_name="{SERVICE}"}}'
"""The stream of the gateway's lines: Loki's label of OpenTelemetry's `service.name`."""
_ERRORS: Final = f'{LINES} | json | level=~"error|critical"'
_CODES: Final = f'{LINES} |= "error_code" | json | message="{MESSAGE}" | fields_error_code!=""'


def errors_in_the_log() -> Panel:
    """What went wrong, in words."""
    return Panel(
        title="Errors in the log",
        answers=(
            "What the gateway says of the requests that failed and of itself. A line's trace id "
            "leads to its trace. Needs Loki."
        ),
        unit="short",
        queries=(Query(expr=_ERRORS, logql=True),),
        kind="logs",
        width=24,
        height=10,
    )


def error_codes() -> Panel:
    """Which errors callers got, by the code in them."""
    counted = f"sum by (fields_error_code) (count_over_time({_CODES} [$__auto]))"
    return Panel(
        title="Error codes",
        answers=(
            "Which errors callers got, by the stable code in the answer; only the log has it. "
            "Needs Loki."
        ),
        unit="short",
        queries=(Query(expr=counted, legend="{{fields_error_code}}", logql=True),),
        width=12,
        stacked=True,
        guide="reference/errors",
        nothing="none",
    )
