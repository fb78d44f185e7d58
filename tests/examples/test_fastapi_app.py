"""The FastAPI example, as real processes: each way of mounting it keeps the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import host_process as checks
import pytest
from host_process import KEY, Host, running

pytestmark = pytest.mark.servers

WAYS = {
    "lifespan-joined": ["bookshop.complete:app"],
    "only-the-hosts-lifespan": ["bookshop.mounted:app"],
    "no-lifespan-behind-a-proxys-prefix": [
        "bookshop.complete:app",
        "--lifespan=off",
        "--root-path=/shop",
    ],
}
ENVIRON = {"BOOKSHOP_AI_KEY": KEY}


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """The example, started one way, for all tests of this file."""
    app, *options = request.param
    folder = tmp_path_factory.mktemp("bookshop")
    with running("fastapi_app", app, folder, *options, environ=ENVIRON) as host:
        yield host


@pytest.fixture
def host(process: Host) -> Iterator[Host]:
    """The same; what it prints during a test is shown where the test fails."""
    before = len(process.output.read_text())
    yield process
    print(process.output.read_text()[before:])


def test_the_shop_is_as_it_was(host: Host) -> None:
    """The app's own views, bodies and links work as they did without a gateway."""
    assert host.client.get("/books/2").json()["title"] == "A Pattern Language"
    assert host.client.get("/books/9").json() == {"detail": "There is no such book."}
    ordered = host.client.post("/orders", json={"book": 1})
    assert ordered.status_code == 201
    assert ordered.json()["see"].endswith("/books/1")
    assert host.client.post("/orders", json={"copies": 1}).status_code == 422
    paths = host.client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/books", "/books/{number}", "/orders"}


def test_the_gateway_is_below_its_prefix(host: Host) -> None:
    """Its data plane and its operational paths are found there, and only there."""
    checks.check_paths_below_the_prefix(host)


def test_the_official_client_calls_it(host: Host) -> None:
    """The openai client, whole and streaming, with the prefix in its base URL."""
    checks.check_official_client(host)


def test_errors_keep_their_dialect(host: Host) -> None:
    """401, 404 and 400 under the prefix are worded as the path's vendor words them."""
    checks.check_dialects_of_errors(host)


def test_usage_is_recorded(host: Host) -> None:
    """A row within two seconds, whether or not somebody ran the gateway's lifespan."""
    checks.check_usage_row(host)


def test_streams_stream(host: Host) -> None:
    """FastAPI and the middleware around the mount hold nothing back."""
    checks.check_streaming(host)


def test_a_client_that_leaves_ends_the_work(host: Host) -> None:
    """The disconnect reaches the gateway through the host, before and after the first byte."""
    checks.check_disconnect_mid_stream(host)
    checks.check_disconnect_before_the_answer(host)


@pytest.mark.parametrize("options", [[], ["--lifespan=off"]], ids=["lifespan", "none"])
def test_the_limiter_guards_the_own_views_only(tmp_path: Path, options: list[str]) -> None:
    """429 after the limit for the shop's views; what is below /ai neither counts nor suffers."""
    environ = {**ENVIRON, "BOOKSHOP_LIMIT": "3/hour"}
    app = "bookshop.complete:app"
    with running("fastapi_app", app, tmp_path, *options, environ=environ) as host:
        checks.check_limit_of_own_views(host, "/books", 3)


def test_it_ends_in_good_order(tmp_path: Path) -> None:
    """With both lifespans run, a stream ends whole, its row is kept, and the shop closes."""
    with running("fastapi_app", "bookshop.complete:app", tmp_path, environ=ENVIRON) as host:
        host.client.post("/orders", json={"book": 3})
        said = checks.check_a_stream_outlives_the_signal(host)
    assert said.index("The shop opens.") < said.index("The shop closes after 1 orders.")
