"""The gateway's own errors: their form in each dialect, their codes, and the headers beside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from radgateway.dialects import Dialect
from radgateway.errors import CATALOGUE
from radgateway.openapi.schema import COUNT, TEXT, Schema, listed, or_null, record, ref, said, words

CODES: Final = tuple(CATALOGUE)
_CODE: Final = ref("ErrorCode")

SCHEMAS: Final[dict[str, Schema]] = {
    "ErrorCode": words(CODES, "What happened, in a word that stays the same."),
    "OpenAIError": record(
        {
            "error": record(
                {"message": TEXT, "type": TEXT, "param": {"type": "null"}, "code": _CODE}
            )
        },
        description="As OpenAI words its errors; all paths do but those of the other APIs.",
    ),
    "AnthropicError": record(
        {
            "type": {"const": "error"},
            "error": record({"type": TEXT, "message": TEXT, "code": _CODE}),
            "request_id": or_null(TEXT),
        },
        description="As Anthropic words its errors.",
    ),
    "GeminiError": record(
        {
            "error": record(
                {
                    "code": said(COUNT, "The status."),
                    "message": TEXT,
                    "status": TEXT,
                    "details": listed(
                        record(
                            {
                                "@type": {"const": "type.googleapis.com/google.rpc.ErrorInfo"},
                                "reason": _CODE,
                                "domain": {"const": "radgateway"},
                            }
                        )
                    ),
                }
            )
        },
        description="As Google words its errors (google.rpc.Status).",
    ),
}


def _header(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "schema": schema}


HEADERS: Final[dict[str, dict[str, Any]]] = {
    "x-request-id": _header("The request's id: the caller's, or one of ours.", TEXT),
    "x-trace-id": _header("The trace's id, 32 hex digits.", TEXT),
    "x-radgateway-provider": _header("Who answered.", TEXT),
    "x-radgateway-attempts": _header("In which attempt.", {"type": "integer", "minimum": 1}),
    "x-radgateway-error-source": _header(
        "Whose an error is. An upstream's keeps its status, body and Retry-After.",
        words(("gateway", "upstream")),
    ),
    "retry-after": _header(
        "Whole seconds, where waiting helps.", {"type": "integer", "minimum": 1}
    ),
    "x-should-retry": _header(
        "Whether another try may help, where that is known.", words(("true", "false"))
    ),
    "www-authenticate": _header("How to say who asks.", TEXT),
}


def header_refs(*names: str) -> dict[str, Any]:
    """Some of the headers, for a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def error_form(dialect: Dialect) -> str:
    """The name of the schema that a dialect's errors have."""
    family = dialect.name.partition("-")[0]
    return {"anthropic": "AnthropicError", "gemini": "GeminiError"}.get(family, "OpenAIError")


def refusals(form: str, codes: Iterable[str], *headers: str) -> dict[str, Any]:
    """The responses that some codes are answered with, by status; `headers` are on each."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CATALOGUE[code].status, []).append(code)
    return {
        str(status): _response(form, status, by_status[status], headers)
        for status in sorted(by_status)
    }


def _response(form: str, status: int, codes: list[str], headers: tuple[str, ...]) -> dict[str, Any]:
    names = ["x-request-id", "x-radgateway-error-source", *headers]
    if status == 401:
        names.append("www-authenticate")
    if any(CATALOGUE[code].should_retry is not None for code in codes):
        names.append("x-should-retry")
    if status in (429, 503):
        names.append("retry-after")
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": header_refs(*names),
        "content": {"application/json": {"schema": ref(form)}},
    }
