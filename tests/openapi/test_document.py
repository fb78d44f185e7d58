"""The OpenAPI document is what the running gateway answers, no more and no less."""

from __future__ import annotations

import asyncio
import json
import string
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from drive import Answer, drive, http_scope
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from radgateway import create_gateway
from radgateway.cli import main
from radgateway.errors import CATALOGUE, Refusal
from radgateway.gateway import Gateway
from radgateway.openapi.document import document
from radgateway.operations.management import PREFIX, Management
from radgateway.surface import GEMINI, GEMINI_ROUTE, OPERATIONS

CONFIG: Final[dict[str, Any]] = {
    "environment": "local",
    "keys": [{"name": "caller", "secret": "key-1"}],
    "admin_keys": [{"name": "ops", "secret": "key-admin"}],
    "providers": {
        "mock": {"kind": "mock", "max_concurrency": 8, "breaker": {}},
        "gone": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": "k"},
    },
    "models": {
        "m": {"candidates": [{"provider": "gone", "model": "m"}, {"provider": "mock"}]},
        "free": {
            "candidates": [{"provider": "mock", "price": {"input": "0.15", "output": "0.60"}}]
        },
    },
    "storage": {"usage": "memory://"},
    "telemetry": {"metrics": True},
}
DOCUMENT: Final = document()
CHAT: Final = b'{"model":"free","messages":[]}'


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every path, method and operation."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def closed(schema: Any) -> Any:
    """A schema whose objects take no field that is not declared: what is answered is documented."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


SCHEMAS: Final = closed(DOCUMENT["components"]["schemas"])


def check(schema: Mapping[str, Any], value: Any) -> None:
    """Hold a value against a schema of the document."""
    whole = {**closed(dict(schema)), "components": {"schemas": SCHEMAS}}
    checker = Draft202012Validator.FORMAT_CHECKER
    Draft202012Validator(whole, format_checker=checker).validate(value)


def documented(path: str, method: str) -> dict[str, Any]:
    """The operation of a path."""
    operation: dict[str, Any] = DOCUMENT["paths"][path][method]
    return operation


def check_answer(path: str, method: str, answer: Answer) -> None:
    """An answer is one that its operation has: status, media type, body, and headers."""
    responses = documented(path, method)["responses"]
    assert str(answer.status) in responses, (path, method, answer.status, answer.body)
    response = responses[str(answer.status)]
    kind = (answer.header("content-type") or "").partition(";")[0]
    assert kind in response["content"] or "*/*" in response["content"]
    schema = response["content"].get(kind, {}).get("schema")
    if schema is not None and kind == "application/json":
        check(schema, json.loads(answer.body))
    if answer.status >= 400 and path != "/health/ready":
        for name in ("x-request-id", "x-radgateway-error-source"):
            assert answer.header(name) is not None
        own = {name.decode() for name, _ in answer.headers} - {
            "content-type",
            "content-length",
            "connection",
        }
        assert own <= set(response["headers"])


def run(story: Callable[[Gateway], Coroutine[Any, Any, None]], **changes: Any) -> None:
    """Run a story with a gateway that has served one request, and failed over for another."""

    async def told() -> None:
        gateway = create_gateway(CONFIG | changes, stop=lambda: None)
        for body in (CHAT, b'{"model":"m","messages":[]}'):
            answer = await call(gateway, "POST", "/v1/chat/completions", body, key="key-1")
            assert answer.status == 200
        while json.loads((await call(gateway, "GET", f"{PREFIX}usage")).body)["total"] < 2:
            await asyncio.sleep(0.005)
        await story(gateway)
        await gateway.aclose()

    asyncio.run(told())


async def call(
    gateway: Gateway,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    key: str = "key-admin",
    query: str = "",
    media: str = "application/json",
) -> Answer:
    """One request."""
    headers = [("content-type", media)] + ([("x-api-key", key)] if key else [])
    return await drive(gateway, http_scope(path, method=method, headers=headers, query=query), body)


def test_it_is_openapi() -> None:
    """By the standard's own schema: references, parameters and all."""
    validate(DOCUMENT)


def test_nothing_in_it_is_left_over() -> None:
    """Every schema and header is referred to, and every operation has a name of its own."""
    text = json.dumps(DOCUMENT)
    for kind in ("schemas", "headers"):
        for name in DOCUMENT["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text, name
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))


MULTIPART: Final = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nfree\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\naudio\r\n--x--\r\n'
)
BODIES: Final[dict[str, bytes]] = {
    f"{PREFIX}faults": b'{"provider":"mock","faults":{"latency_ms":1},"for_s":5}',
    f"{PREFIX}providers/{{name}}/breaker": b'{"mode":"auto"}',
    f"{PREFIX}drain": b"",
}


def asked(path: str, operation: Mapping[str, Any]) -> tuple[str, bytes, str]:
    """A path without placeholders, a body it takes, and the media type of that."""
    content = operation.get("requestBody", {}).get("content", {})
    place = path.format(name="mock", model="free", action="generateContent")
    if "multipart/form-data" in content:
        return place, MULTIPART, "multipart/form-data; boundary=x"
    default = CHAT if "data plane" in operation["tags"] and content else b""
    return place, BODIES.get(path, default) if content else b"", "application/json"


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, method, _ in operations()], ids=str
)
def test_every_operation_answers_as_it_says(path: str, method: str) -> None:
    """With success to whom it is for, and with its documented refusal to whom not."""
    operation = documented(path, method)
    place, body, media = asked(path, operation)

    async def story(gateway: Gateway) -> None:
        admin = "management" in operation["tags"]
        key = "key-admin" if admin else "key-1"
        answer = await call(gateway, method.upper(), place, body, key=key, media=media)
        assert 200 <= answer.status < 300, answer.body
        check_answer(path, method, answer)
        if operation["security"]:
            for key, status in (("", 401), ("wrong", 401), ("key-1", 403 if admin else 0)):
                if status:
                    refused = await call(gateway, method.upper(), place, body, key=key)
                    assert refused.status == status
                    check_answer(path, method, refused)
        if method == "get":
            head = await call(gateway, "HEAD", place, key=key if not admin else "key-admin")
            assert head.body == b""

    run(story)


def test_every_path_of_the_running_app_is_in_it() -> None:
    """Whoever adds an endpoint documents it; and none is documented that is not there."""

    async def story(gateway: Gateway) -> None:
        management = gateway.served.below[PREFIX]
        while not isinstance(management, Management):
            management = management.app  # type: ignore[attr-defined]
        found = {f"{PREFIX}{path}" for path in management.paths} | set(gateway.served.paths)
        named = {
            path.replace("{name}", name) for path in DOCUMENT["paths"] for name in ("mock", "gone")
        }
        assert found | {*OPERATIONS, GEMINI_ROUTE} == named

    run(story)


def test_what_a_reload_answers_is_in_it() -> None:
    """Where something has changed, where nothing has, and where it may not be asked."""

    async def story(gateway: Gateway) -> None:
        path = f"{PREFIX}reload"
        await gateway.reload(CONFIG | {"admission": None, "keys": []})
        for status, body in ((200, b""), (200, b"{}"), (400, b'{"now":1}')):
            answer = await call(gateway, "POST", path, body)
            assert answer.status == status
            check_answer(path, "post", answer)
        answer = await call(gateway, "GET", f"{PREFIX}config")
        check_answer(f"{PREFIX}config", "get", answer)

    run(story)


def test_a_query_of_every_kind_is_answered_as_it_says() -> None:
    """Rows, sums and exports, of requests that were served, failed and refused."""

    async def story(gateway: Gateway) -> None:
        await call(gateway, "POST", "/v1/chat/completions", b'{"model":"x"}', key="key-1")
        for name in ("usage", "traces"):
            for query in ("limit=1", "since=-1h&key=caller", "format=csv", "provider="):
                answer = await call(gateway, "GET", f"{PREFIX}{name}", query=query)
                assert answer.status == 200
                check_answer(f"{PREFIX}{name}", "get", answer)
        for query in ("group_by=hour", "group_by=model,provider", "group_by=key&format=csv"):
            answer = await call(gateway, "GET", f"{PREFIX}usage", query=query)
            assert answer.status == 200
            check_answer(f"{PREFIX}usage", "get", answer)
        for query in ("limit=0", "cursor=x", "nonsense=1", "group_by=x"):
            answer = await call(gateway, "GET", f"{PREFIX}usage", query=query)
            assert answer.status == 400
            check_answer(f"{PREFIX}usage", "get", answer)

    run(story)


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_has_its_form_in_each_dialect(code: str) -> None:
    """As the dialects word it, whatever the code."""
    refusal = Refusal(code, "A message.")
    forms = {"OpenAIError": "/v1/embeddings", "AnthropicError": "/v1/messages"}
    for form, route in forms.items():
        body = json.loads(OPERATIONS[route].dialect.error_body(refusal, "r1"))
        check({"$ref": f"#/components/schemas/{form}"}, body)
    check({"$ref": "#/components/schemas/GeminiError"}, json.loads(GEMINI.error_body(refusal, "")))


def test_a_data_planes_refusals_are_in_it() -> None:
    """In the dialect of the path, with the headers that go with them."""

    async def story(gateway: Gateway) -> None:
        for path in (*OPERATIONS, GEMINI_ROUTE):
            place = path.format(model="nobody", action="generateContent")
            for body in (b"{", b'{"model":"nobody"}', b"{}"):
                answer = await call(gateway, "POST", place, body, key="key-1")
                assert 400 <= answer.status < 500
                check_answer(path, "post", answer)
        gateway.drain.begin()
        answer = await call(gateway, "POST", "/v1/messages", CHAT, key="key-1")
        assert answer.status == 503
        check_answer("/v1/messages", "post", answer)

    run(story)


def parameters_of(path: str) -> dict[str, st.SearchStrategy[str]]:
    """Values that a path's parameters take by their schemas, and some that they may not."""
    free = st.text(string.printable, max_size=40)
    made: dict[str, st.SearchStrategy[str]] = {}
    for parameter in documented(path, "get")["parameters"]:
        schema = parameter["schema"]
        known = [*schema.get("enum", ()), *schema.get("examples", ()), "1", "50", "0" * 32]
        if "pattern" in schema:
            made[parameter["name"]] = st.from_regex(schema["pattern"], fullmatch=True) | free
        else:
            made[parameter["name"]] = st.sampled_from(known) | free
    return made


@pytest.mark.parametrize("name", ["usage", "traces", "slo", "providers", "config"])
def test_whatever_is_asked_the_answer_is_a_documented_one(name: str) -> None:
    """Any value of any parameter, and any other: 200 or 400, in the form that it says."""
    path = f"{PREFIX}{name}"
    known = parameters_of(path)
    queries = st.fixed_dictionaries({}, optional=known)
    strange = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2)

    async def story(gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(queries, strange)
        def asked_anything(query: dict[str, str], more: dict[str, str]) -> None:
            text = urlencode(more | query, errors="replace")
            answer = asyncio.run_coroutine_threadsafe(
                call(gateway, "GET", path, query=text), loop
            ).result(10)
            assert answer.status in (200, 400), answer.body
            check_answer(path, "get", answer)

        await asyncio.to_thread(asked_anything)

    run(story)


def test_it_is_served_below_where_the_gateway_is_mounted() -> None:
    """To an administrator, the same as is printed, with the prefix as its server."""

    async def story(gateway: Gateway) -> None:
        scope = http_scope(
            f"{PREFIX}openapi.json",
            method="GET",
            headers=[("x-api-key", "key-admin")],
            root_path="/ai",
        )
        answer = await drive(gateway, scope)
        assert json.loads(answer.body) == DOCUMENT | {"servers": [{"url": "/ai"}]}

    run(story)


def test_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Whole, as JSON."""
    assert main(["openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT
