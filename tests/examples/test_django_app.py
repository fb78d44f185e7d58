"""The Django example, as real processes: each way of mounting it keeps the same promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import host_process as checks
import pytest
from host_process import EXAMPLES, KEY, Host, running

pytestmark = pytest.mark.servers

WAYS = {
    "lifespan-served": ["helpdesk.asgi:application", "--lifespan=on"],
    "django-refuses-the-lifespan": ["helpdesk.asgi_mounted:application"],
    "no-lifespan-behind-a-proxys-prefix": [
        "helpdesk.asgi:application",
        "--lifespan=off",
        "--root-path=/desk",
    ],
}
ENVIRON = {"HELPDESK_AI_KEY": KEY}


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """The example, started one way, for all tests of this file."""
    app, *options = request.param
    folder = tmp_path_factory.mktemp("helpdesk")
    with running("django_app", app, folder, *options, environ=ENVIRON) as host:
        yield host


@pytest.fixture
def host(process: Host) -> Iterator[Host]:
    """The same; what it prints during a test is shown where the test fails."""
    before = len(process.output.read_text())
    yield process
    print(process.output.read_text()[before:])


def test_the_project_is_as_it_was(host: Host) -> None:
    """Sync and async views, a posted body, Django's own 404 and its redirects still work."""
    articles = host.client.get("/articles/").json()["articles"]
    assert articles[1]["url"].endswith("/articles/2/")
    article = host.client.get("/articles/2/")
    assert article.json()["title"] == "Where is my invoice?"
    assert article.headers["x-frame-options"] == "DENY"
    voted = host.client.post("/articles/1/vote/", json={"helped": True, "why": "x" * 200_000})
    assert (voted.status_code, voted.json()["votes"]) == (201, 1)
    missing = host.client.get("/articles/9/")
    assert (missing.status_code, missing.headers["content-type"][:9]) == (404, "text/html")
    assert host.client.get("/articles/2").headers["location"].endswith("/articles/2/")


def test_the_gateway_is_below_its_prefix(host: Host) -> None:
    """Its data plane and its operational paths are found there, and only there."""
    checks.check_paths_below_the_prefix(host)


def test_the_official_client_calls_it(host: Host) -> None:
    """The openai client, whole and streaming, with the prefix in its base URL."""
    checks.check_official_client(host)


def test_errors_keep_their_dialect(host: Host) -> None:
    """401, 404 and 400 under the prefix are worded as the path's vendor words them."""
    checks.check_dialects_of_errors(host)
    bare = host.client.get("/ai", headers=checks.AUTHORIZED)
    assert (bare.status_code, bare.json()["error"]["code"]) == (404, "unknown_path")


def test_usage_is_recorded(host: Host) -> None:
    """A row within two seconds, whether or not somebody ran the gateway's lifespan."""
    checks.check_usage_row(host)


def test_streams_stream(host: Host) -> None:
    """Nothing between the server and the gateway holds a stream back."""
    checks.check_streaming(host)


def test_a_client_that_leaves_ends_the_work(host: Host) -> None:
    """The disconnect reaches the gateway beside Django, before and after the first byte."""
    checks.check_disconnect_mid_stream(host)
    checks.check_disconnect_before_the_answer(host)


@pytest.mark.parametrize("options", [[], ["--lifespan=off"]], ids=["lifespan", "none"])
def test_the_limiter_guards_the_own_views_only(tmp_path: Path, options: list[str]) -> None:
    """429 after the limit for Django's views; what is below /ai neither counts nor suffers."""
    environ = {**ENVIRON, "HELPDESK_LIMIT": "3/hour"}
    app = "helpdesk.asgi:application"
    with running("django_app", app, tmp_path, *options, environ=environ) as host:
        checks.check_limit_of_own_views(host, "/articles/", 3)


def test_it_ends_in_good_order(tmp_path: Path) -> None:
    """With the server's lifespan given to the gateway, a stream ends whole and its row is kept."""
    with running("django_app", "helpdesk.asgi:application", tmp_path, environ=ENVIRON) as host:
        said = checks.check_a_stream_outlives_the_signal(host)
    assert "Application shutdown complete." in said


def test_the_project_passes_djangos_own_check() -> None:
    """`manage.py check` has nothing to say."""
    command = [sys.executable, str(EXAMPLES / "django_app" / "manage.py"), "check"]
    checked = subprocess.run(
        [*command, "--fail-level=WARNING"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr
