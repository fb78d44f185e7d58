"""Every path, what it takes, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from radgateway.errors import CATALOGUE
from radgateway.exchange import Operation
from radgateway.openapi.error_forms import error_form, header_refs, refusals
from radgateway.openapi.schema import TEXT, Schema, record, ref, words
from radgateway.operations.management import PREFIX
from radgateway.operations.query_parameters import PARAMETERS, TRACES, USAGE
from radgateway.surface import GEMINI, GEMINI_ROUTE, LIST_MODELS, MODELS_ROUTE, OPERATIONS

Path = dict[str, Any]

_ADMIN_ONLY: Final = frozenset(
    {"admin_key_required", "faults_not_allowed", "unknown_path", "method_not_allowed"}
)
_INCIDENT_APP: Final = frozenset({"unknown_incident", "wrong_state"})
_WHO: Final = ("missing_api_key", "invalid_api_key", "admin_key_required")
_ORDER_CODES: Final = ("invalid_request", "invalid_json", "request_timeout", "body_too_large")
_ANY_KEY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}, {"googleApiKey": []}]
_ADMIN_KEY: Final[list[dict[str, list[str]]]] = [
    {"adminBearer": []},
    {"adminApiKey": []},
    {"adminGoogleApiKey": []},
]


def paths() -> dict[str, Path]:
    """All of them. HEAD is answered wherever GET is."""
    made = {route: _asked(operation) for route, operation in OPERATIONS.items()}
    made[GEMINI_ROUTE] = _gemini()
    made[MODELS_ROUTE] = _models()
    return made | _OPERATIONAL | {f"{PREFIX}{name}": path for name, path in _MANAGEMENT.items()}


def _asked(operation: Operation) -> Path:
    multipart = operation.api_type == "transcriptions"
    body = record({"model": {"type": "string", "minLength": 1}})
    media = "multipart/form-data" if multipart else "application/json"
    return {
        "post": {
            "operationId": operation.api_type,
            "tags": ["data plane"],
            "summary": f"{operation.api_type}, in the dialect {operation.dialect.name}",
            "description": "All fields pass to the provider as they are; the model routes.",
            "security": _ANY_KEY,
            "requestBody": {"required": True, "content": {media: {"schema": body}}},
            "responses": _answers(error_form(operation.dialect)),
        }
    }


def _gemini() -> Path:
    actions = ("generateContent", "streamGenerateContent", "countTokens", "embedContent")
    return {
        "parameters": [
            {"name": "model", "in": "path", "required": True, "schema": TEXT},
            {"name": "action", "in": "path", "required": True, "schema": words(actions)},
        ],
        "post": {
            "operationId": "gemini",
            "tags": ["data plane"],
            "summary": "Google's API, in the dialect gemini",
            "security": [*_ANY_KEY, {"keyParameter": []}],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "responses": _answers(error_form(GEMINI)),
        },
    }


def _answers(form: str) -> dict[str, Any]:
    headers = header_refs(
        "x-request-id", "x-trace-id", "x-radgateway-provider", "x-radgateway-attempts"
    )
    served = {
        "description": "The provider's answer, as it came: JSON, bytes, or a stream of events.",
        "headers": headers,
        "content": {"*/*": {}},
    }
    codes = [code for code in CATALOGUE if code not in _ADMIN_ONLY | _INCIDENT_APP]
    return {"200": served, **refusals(form, codes, "x-trace-id")}


def _models() -> Path:
    form = error_form(LIST_MODELS.dialect)
    return {
        "get": {
            "operationId": "models",
            "tags": ["data plane"],
            "summary": "The models that may be asked for",
            "security": _ANY_KEY,
            "responses": {
                "200": _json("Names and aliases.", "Models"),
                **refusals(form, ("missing_api_key", "invalid_api_key", "draining"), "x-trace-id"),
            },
        }
    }


def _json(description: str, name: str, *more: str) -> dict[str, Any]:
    forms: list[Schema] = [ref(each) for each in (name, *more)]
    return {
        "description": description,
        "content": {
            "application/json": {"schema": {"anyOf": forms} if more else forms[0]},
        },
    }


def _shown(
    name: str,
    summary: str,
    answer: dict[str, Any],
    *,
    query: Iterable[str] = (),
    codes: Iterable[str] = (),
) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": ["management"],
        "summary": summary,
        "security": _ADMIN_KEY,
        "parameters": [_parameter(each) for each in query],
        "responses": {
            "200": answer,
            **refusals("OpenAIError", ("invalid_request", *_WHO, *codes)),
        },
    }


def _parameter(name: str) -> dict[str, Any]:
    declared = PARAMETERS[name]
    return {
        "name": name,
        "in": "query",
        "description": declared.description,
        "schema": dict(declared.schema),
        # A list in one value, with its commas as they are.
        **({"allowReserved": True} if name == "group_by" else {}),
    }


def _ordered(
    name: str,
    summary: str,
    form: str,
    status: int,
    answer: dict[str, Any],
    *codes: str,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": ["management"],
        "summary": summary,
        "security": _ADMIN_KEY,
        "requestBody": {
            # An empty body is an empty object, which is all that these take.
            "required": name not in ("drain", "reload"),
            "content": {"application/json": {"schema": ref(form)}},
        },
        "responses": {
            str(status): answer,
            **(beside or {}),
            **refusals("OpenAIError", (*_ORDER_CODES, *_WHO, *codes)),
        },
    }


def _csv(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"content": answer["content"] | {"text/csv": {"schema": TEXT}}}


_PROVIDER_NAME: Final = {"name": "name", "in": "path", "required": True, "schema": TEXT}
_FAULTED: Final = _json("What is armed in the process that answers.", "ArmedFaults")

_MANAGEMENT: Final[dict[str, Path]] = {
    "config": {"get": _shown("config", "What is configured", _json("No secret.", "Config"))},
    "usage": {
        "get": _shown(
            "usage",
            "Requests, or their sums",
            _csv(_json("Newest first; sums with `group_by`.", "UsagePage", "UsageSums")),
            query=USAGE,
            codes=("overloaded",),
        )
    },
    "traces": {
        "get": _shown(
            "traces",
            "Requests as what happened",
            _csv(_json("Newest first.", "TracePage")),
            query=TRACES,
            codes=("overloaded",),
        )
    },
    "keys": {
        "get": _shown(
            "keys",
            "What each key may spend, and has spent",
            _json("Keys by their names; no secret.", "Keys"),
        )
    },
    "providers": {
        "get": _shown("providers", "How each provider is", _json("As seen here.", "Providers"))
    },
    "slo": {
        "get": _shown(
            "slo",
            "Objectives, burn rates and the error budget left",
            _json("Counted in the ledger.", "SLO"),
            codes=("overloaded",),
        )
    },
    "openapi.json": {
        "get": _shown(
            "openapi",
            "This document",
            {
                "description": "OpenAPI 3.1.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
        )
    },
    "providers/{name}/breaker": {
        "parameters": [_PROVIDER_NAME],
        "post": _ordered(
            "breaker",
            "Set a provider's circuit breaker",
            "BreakerOrder",
            200,
            _json("The provider, after it.", "Provider"),
            "unknown_path",
        ),
    },
    "drain": {
        "post": _ordered(
            "drain",
            "Drain, and end the process where it is the gateway's own",
            "DrainOrder",
            202,
            _json("It has begun.", "Draining"),
        )
    },
    "reload": {
        "post": _ordered(
            "reload",
            "Read the configuration again and put it in force, whole or not at all",
            "ReloadOrder",
            200,
            _json("It is in force.", "Reloaded"),
            "invalid_config",
            "needs_restart",
            "reload_failed",
            beside={"202": _json("It is valid, and all workers are told.", "Reloaded")},
        )
    },
    "faults": {
        "get": _shown("armed", "What is broken on purpose", _FAULTED),
        "post": _ordered(
            "arm",
            "Break a provider on purpose, for a limited time",
            "ArmingOrder",
            200,
            _FAULTED,
            "faults_not_allowed",
        ),
        "delete": _shown(
            "disarm",
            "End what was armed, or one provider's",
            _FAULTED,
            codes=("faults_not_allowed",),
        )
        | {"parameters": [{"name": "provider", "in": "query", "schema": TEXT}]},
    },
}

_OPERATIONAL: Final[dict[str, Path]] = {
    "/health": {
        "get": {
            "operationId": "health",
            "tags": ["health"],
            "summary": "Whether the process turns",
            "security": [],
            "responses": {"200": _json("It does.", "Health")},
        }
    },
    "/health/ready": {
        "get": {
            "operationId": "ready",
            "tags": ["health"],
            "summary": "Whether to send work here, and what is degraded",
            "security": [],
            "responses": {
                "200": _json("Do.", "Readiness"),
                "503": _json("It is draining.", "Readiness"),
            },
        }
    },
    "/metrics": {
        "get": {
            "operationId": "metrics",
            "tags": ["health"],
            "summary": "Prometheus metrics, where they are on",
            "security": [],
            "responses": {
                "200": {
                    "description": "Text, or OpenMetrics to who asks for it.",
                    "content": {
                        "text/plain": {"schema": TEXT},
                        "application/openmetrics-text": {"schema": TEXT},
                    },
                }
            },
        }
    },
}
