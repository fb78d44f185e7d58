"""What the operational paths answer, as schemas."""

from __future__ import annotations

from typing import Any, Final, get_args

import msgspec

from radgateway.exchange import Priority, UsageSource
from radgateway.inbound.limit_set import BUDGET, KINDS
from radgateway.openapi.schema import (
    COUNT,
    DECIMAL,
    MOMENT,
    NUMBER,
    RATIO,
    TEXT,
    TRUTH,
    Schema,
    listed,
    mapped,
    or_null,
    record,
    ref,
    said,
    table,
    words,
)
from radgateway.operations.arming import AbortCondition, ArmingOrder, Reason
from radgateway.operations.degraded import MODES
from radgateway.operations.management import DrainOrder
from radgateway.operations.providers import BreakerOrder
from radgateway.operations.query_parameters import OUTCOMES
from radgateway.operations.reload_action import ReloadOrder
from radgateway.operations.slo_view import WINDOWS
from radgateway.provider.circuit.standing import BreakerSnapshot
from radgateway.surface import SPOKEN_BY
from radgateway.usage.query import GROUPS

_OUTCOME: Final = words(OUTCOMES)
_COST: Final = or_null(DECIMAL, "US dollars, exact; null where it is not known.")
_NEXT: Final = {
    "nextCursor": or_null(TEXT, "What `cursor` takes for the next page; null at the end.")
}
_STATES: Final = words(dict.fromkeys(mode.state for mode in MODES if mode.dependency == "provider"))
_TOKENS: Final = or_null(COUNT, "null where it is not known")

_SUMMED: Final[dict[str, Schema]] = {
    "prompt_tokens": _TOKENS,
    "completion_tokens": _TOKENS,
    "total_tokens": _TOKENS,
    "cost_total": or_null(NUMBER, "US dollars, as the original's number."),
    "cached_tokens": said(_TOKENS, "Of the prompt, read from a cache."),
    "reasoning_tokens": said(_TOKENS, "Of the completion."),
}
_WRITTEN: Final = {"cache_write_tokens": said(_TOKENS, "Of the prompt, written to a cache.")}
_OF_ATTEMPTS: Final = {
    name: form
    for name, form in (_SUMMED | _WRITTEN).items()
    if name not in ("total_tokens", "cost_total")
}
_VERSION: Final = or_null(TEXT, "The table of prices it was charged by.")

_ROW: Final = record(
    {
        "timestamp": said(MOMENT, "When it began."),
        "requestId": TEXT,
        "traceId": TEXT,
        "apiKeyName": TEXT,
        "incomingApiType": TEXT,
        "incomingModel": said(TEXT, "As the caller named it."),
        "selectedModel": said(TEXT, "As the provider that served it does."),
        "provider": TEXT,
        "responseStatus": words(("success", "error")),
        "durationMs": COUNT,
        "usage": record(_SUMMED | _WRITTEN),
        "usageId": said(TEXT, "The row's own id; a caller may send a request id twice."),
        "outcome": _OUTCOME,
        "status": said(COUNT, "499 where the client went away."),
        "errorCode": or_null(TEXT, "A code of ours."),
        "interrupted": or_null(TEXT, "Why an answer that had begun was not completed."),
        "stream": TRUTH,
        "ttftMs": or_null(NUMBER, "Milliseconds to the first byte."),
        "usageSource": words(get_args(UsageSource)),
        "costUsd": _COST,
        "priceVersion": _VERSION,
        "attempts": listed(
            record(
                {
                    "provider": TEXT,
                    "model": TEXT,
                    "status": or_null(COUNT),
                    "error": or_null(TEXT),
                    "hedge": said(TRUTH, "Made beside one that was late."),
                    "durationMs": NUMBER,
                    "usage": record(_OF_ATTEMPTS),
                    "usageSource": words(get_args(UsageSource)),
                    "costUsd": _COST,
                    "priceVersion": _VERSION,
                }
            )
        ),
    }
)

_SUMS: Final = record(
    {
        "group": {
            "type": "object",
            "properties": dict.fromkeys(GROUPS, TEXT),
            "additionalProperties": False,
            "description": "The value of each that was grouped by.",
        },
        "requests": COUNT,
        "good": said(COUNT, "Neither answered 5xx nor broken off."),
        "errors": said(COUNT, "`requests` less `good`."),
        "usage": record(_SUMMED),
        "costUsd": _COST,
        "unknownUsage": said(COUNT, "Requests whose tokens are not all known."),
        "unknownCost": said(COUNT, "Requests whose cost is not known, and not in `costUsd`."),
    }
)

_EVENT: Final = record(
    {
        "timestamp": MOMENT,
        "traceId": TEXT,
        "requestId": TEXT,
        "message": words(
            (
                "gateway request accepted",
                "gateway request completed",
                "gateway request failed",
                "provider attempt answered",
                "provider attempt failed",
                "provider attempt abandoned",
            )
        ),
        "apiKeyName": TEXT,
        "route": TEXT,
        "provider": TEXT,
        "model": TEXT,
        "status": or_null(COUNT),
        "outcome": _OUTCOME,
        "reason": or_null(TEXT),
        "durationMs": NUMBER,
        "firstByteMs": or_null(NUMBER),
        "costUsd": _COST,
    },
    optional=(
        "apiKeyName",
        "route",
        "provider",
        "model",
        "status",
        "outcome",
        "reason",
        "durationMs",
        "firstByteMs",
        "costUsd",
    ),
)

_WINDOW: Final = record(
    {
        "valid": said({"type": "integer", "minimum": 1}, "Requests that count."),
        "good": COUNT,
        "ratio": RATIO,
        "errorRatio": RATIO,
        "burnRate": said(NUMBER, "The error ratio over the budget: 1 spends it just in time."),
        "covered": said(MOMENT, "Since when there is data in the window."),
    }
)

_OBJECTIVE: Final = record(
    {
        "name": TEXT,
        "objective": RATIO,
        "windowDays": COUNT,
        "budget": said(RATIO, "1 less the objective."),
        "budgetLeft": or_null(NUMBER, "1 is all of it; below 0 it is overdrawn."),
        "covered": or_null(MOMENT, "Since when there is data in the objective's window."),
        "windows": record(
            {name: or_null(ref("SLOWindow"), "null without a request") for name in WINDOWS}
        )
        | {
            "additionalProperties": or_null(ref("SLOWindow")),
            "description": "And the objectives' own, where they are of other lengths.",
        },
    }
)

_PROVIDER: Final = record(
    {
        "name": TEXT,
        "kind": words(SPOKEN_BY),
        "baseUrl": or_null(TEXT),
        "state": _STATES,
        "circuitState": or_null(TEXT),
        "circuitMode": or_null(TEXT),
        "circuit": or_null(ref("BreakerSnapshot")),
        "retryAfterS": or_null(NUMBER),
        "inFlight": or_null(COUNT),
        "maxConcurrency": or_null(COUNT),
        "concurrencyLimit": or_null(COUNT),
        "attempts": COUNT,
        "failures": COUNT,
        "errorRatio": or_null(RATIO),
        "firstByteMs": record(
            {"ewma": or_null(NUMBER), "p50": or_null(NUMBER), "p95": or_null(NUMBER)}
        ),
        "lastError": or_null(record({"reason": TEXT, "status": or_null(COUNT), "at": MOMENT})),
        "probe": or_null(
            record(
                {
                    "ok": TRUTH,
                    "reason": or_null(TEXT),
                    "durationMs": NUMBER,
                    "at": MOMENT,
                }
            )
        ),
    }
)

_CONFIG: Final = record(
    {
        "listenAddr": TEXT,
        "retryBudget": COUNT,
        "keysConfigured": COUNT,
        "models": mapped(
            listed(record({"Provider": TEXT, "Model": TEXT, "Weight": NUMBER})),
        ),
        "environment": TEXT,
        "strategies": mapped(TEXT),
        "retryBudgetRatio": NUMBER,
        "usageStorage": TEXT,
        "limitsStorage": TEXT,
        "prices": record(
            {
                "source": said(TEXT, "Where prices come from that no candidate has of its own."),
                "version": or_null(TEXT),
            }
        ),
        "generation": said(COUNT, "Which configuration of this process it is; the first is 1."),
        "loadedAt": MOMENT,
        "loadedBy": said(TEXT, "start, signal, secrets, host, or an admin key's name."),
    }
)

_CHANGE: Final[Schema] = {
    "oneOf": [
        record({"path": TEXT, "old": {}, "new": {}}),
        said(
            record({"path": TEXT, "changed": {"const": True}}),
            "A secret, or what is in a file.",
        ),
    ]
}

_AMOUNT: Final[Schema] = {
    "anyOf": [{"type": "integer"}, DECIMAL],
    "description": "A number, or US dollars as an exact decimal.",
}
_KEY: Final = record(
    {
        "name": TEXT,
        "priority": words(get_args(Priority)),
        "limits": {
            "anyOf": [
                listed(
                    record(
                        {
                            "limit": said(TEXT, "As it was written."),
                            "kind": words((*KINDS, BUDGET)),
                            "shadow": said(TRUTH, "Whether it only reports."),
                            "amount": _AMOUNT,
                            "spent": _AMOUNT,
                            "left": _AMOUNT,
                            "resetsAt": said(MOMENT, "When all of it is there again."),
                        }
                    )
                ),
                {"type": "null"},
            ],
            "description": "null where their storage does not answer.",
        },
    }
)

_FAULTS: Final = record(
    {
        "allowed": TRUTH,
        "process": said(COUNT, "Whose faults these are: the others of this gateway have theirs."),
        "armed": listed(
            record(
                {
                    "provider": TEXT,
                    "faults": said({"type": "object"}, "Those settings that are set."),
                    "by": TEXT,
                    "for_s": NUMBER,
                    "expires_in_s": NUMBER,
                    "abort": ref("AbortCondition"),
                    "requests": COUNT,
                    "failures": COUNT,
                }
            )
        ),
        "ended": listed(
            record(
                {
                    "provider": TEXT,
                    "reason": words(get_args(Reason)),
                    "detail": TEXT,
                    "by": or_null(TEXT),
                    "ago_s": NUMBER,
                }
            )
        ),
    },
    optional=("process",),
)

_SHOWN: Final[dict[str, Schema]] = {
    "Config": _CONFIG,
    "UsageRow": _ROW,
    "UsagePage": table(ref("UsageRow"), dict(_NEXT)),
    "Sums": _SUMS,
    "UsageSums": table(
        ref("Sums"),
        {
            "nextCursor": {"type": "null"},
            "groupBy": listed(words(GROUPS)),
            "sum": said(ref("Sums"), "Of all that fit."),
            "complete": said(TRUTH, "false where there are more groups than are given."),
        },
    ),
    "TraceEvent": _EVENT,
    "TracePage": table(ref("TraceEvent"), dict(_NEXT)),
    "Key": _KEY,
    "Keys": table(ref("Key")),
    "Provider": _PROVIDER,
    "Providers": table(ref("Provider")),
    "SLOWindow": _WINDOW,
    "Objective": _OBJECTIVE,
    "SLO": table(ref("Objective"), {"at": MOMENT}),
    "ArmedFaults": _FAULTS,
    "Change": _CHANGE,
    "Reloaded": record(
        {
            "status": words(("applied", "unchanged", "accepted")),
            "generation": COUNT,
            "changes": listed(ref("Change")),
            "more": said(COUNT, "Changes beyond those listed."),
        }
    ),
    "Draining": record(
        {
            "status": {"const": "draining"},
            "inFlight": COUNT,
            "streams": COUNT,
            "drainTimeoutS": NUMBER,
            "streamDrainTimeoutS": NUMBER,
        }
    ),
    "Health": record({"status": {"const": "ok"}}),
    "Readiness": record(
        {
            "status": words(("ready", "draining", "unavailable")),
            "in_flight": COUNT,
            "dependencies": said(mapped(TEXT), "The state of each, in a word."),
            "degraded": listed(record({"dependency": TEXT, "state": TEXT, "behaviour": TEXT})),
        }
    ),
    "Models": record(
        {
            "object": {"const": "list"},
            "data": listed(
                record(
                    {"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT}
                )
            ),
        }
    ),
}


def schemas() -> dict[str, Schema]:
    """All of them, and the forms of the orders that may be given."""
    _, made = msgspec.json.schema_components(
        [ArmingOrder, BreakerOrder, DrainOrder, ReloadOrder, BreakerSnapshot],
        ref_template="#/components/schemas/{name}",
    )
    # Through JSON, as it will be shown: msgspec gives defaults as Python has them.
    forms: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    for form in (ArmingOrder, AbortCondition):
        # `order_of` refuses what it does not know.
        forms[form.__name__]["additionalProperties"] = False
    forms["Faults"]["additionalProperties"] = False
    forms["BreakerOrder"]["oneOf"] = [
        {"required": [name], "properties": {name: {"type": "string"}}}
        for name in ("mode", "action")
    ]
    return _SHOWN | forms
