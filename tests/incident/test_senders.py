"""What becomes of a message: against services as strict as the real ones, in all their troubles."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import httpx
import pytest
from incident.services import PAGE, ROUTING_KEY, TOKEN, Services, services

from radgateway.incident.calls import Failed, Pace, call, client
from radgateway.incident.deployment import Deployment, change_event
from radgateway.incident.outbox import Sender
from radgateway.incident.outcome import Delivered, Later, Outcome, Refused
from radgateway.incident.pagerduty import PagerDuty
from radgateway.incident.slack import Slack
from radgateway.incident.statuspage import Statuspage, authorization
from radgateway.incident.transaction import Job

DEPLOYMENT = Deployment(
    id="d1", version="1.2", environment="production", by="ci", began_at=1e9, ends_at=1e9 + 900
)


@pytest.fixture
def others() -> Iterator[Services]:
    with services() as made:
        made.throttles = False
        yield made


def update(status: str = "investigating", page_id: str | None = None, attempts: int = 0) -> Job:
    body = {
        "page_id": page_id,
        "name": "RAD Gateway - Elevated Error Rates",
        "status": status,
        "body": f"words of {status}",
        "impact": "major",
    }
    return Job(1, "INC-7", body, attempts)


def slack(others: Services) -> tuple[Sender, Job]:
    sender = Slack(client(), {"war_room": f"{others.url}/services/war"})
    return sender, Job(1, "INC-7", {"audience": "war_room", "text": "hello"}, 0)


def pagerduty(others: Services) -> tuple[Sender, Job]:
    sender = PagerDuty(client(), others.url, ROUTING_KEY)
    return sender, Job(1, "d1", change_event(DEPLOYMENT).body, 0)


def statuspage(others: Services) -> tuple[Sender, Job]:
    pace = Pace(0.0, lambda: 0.0)
    return Statuspage(client(authorization(TOKEN)), others.url, PAGE, pace), update()


SENDERS = {"slack": slack, "pagerduty": pagerduty, "statuspage": statuspage}


def sent(sender: Sender, *jobs: Job) -> list[Outcome]:
    async def story() -> list[Outcome]:
        try:
            return [await sender.send(job) for job in jobs]
        finally:
            await sender.aclose()

    return asyncio.run(story())


@pytest.mark.parametrize("name", SENDERS)
def test_a_message_arrives(others: Services, name: str) -> None:
    """And the other side has nothing to complain of."""
    sender, job = SENDERS[name](others)
    (outcome,) = sent(sender, job)
    assert isinstance(outcome, Delivered)
    assert others.refused == []
    assert len(others.slack) + len(others.changes) + len(others.page) == 1


TROUBLES: list[tuple[int | str, type[Outcome], float | None]] = [
    (500, Later, None),
    (503, Later, None),
    (408, Later, None),
    (420, Later, 5.0),
    (429, Later, 7.0),
    ("cut", Later, None),
    ("lose", Later, None),
    (301, Refused, None),
    (400, Refused, None),
    (403, Refused, None),
    (404, Refused, None),
]


@pytest.mark.parametrize("name", SENDERS)
def test_trouble_is_told_apart(others: Services, name: str) -> None:
    """What passes is tried again, no sooner than asked; what does not is given up.

    And no reason has a secret in it: not the address, which at Slack is one, and no key.
    """
    sender, job = SENDERS[name](others)
    others.troubled(name, *(trouble for trouble, _, _ in TROUBLES))
    outcomes = sent(sender, *[job] * len(TROUBLES))
    for outcome, (trouble, kind, after_s) in zip(outcomes, TROUBLES, strict=True):
        assert isinstance(outcome, kind), trouble
        assert not isinstance(outcome, Delivered)
        if isinstance(outcome, Later):
            assert outcome.after_s == after_s, trouble
        for secret in (others.url, "war", TOKEN, ROUTING_KEY):
            assert secret not in outcome.reason


def test_a_call_that_hangs_is_given_up(others: Services) -> None:
    """Every call has a clock."""
    others.troubled("slack", "hang")

    async def story() -> None:
        async with client() as http:
            await call(http, "POST", f"{others.url}/services/x", json={}, limit_s=0.2)

    with pytest.raises(Failed, match=r"no answer within 0\.2 s"):
        asyncio.run(story())


def test_nobody_at_the_address(others: Services) -> None:
    """A refused connection may be another's in a moment."""
    sender = Slack(client(), {"war_room": "http://127.0.0.1:1/x"})
    (outcome,) = sent(sender, slack(others)[1])
    assert outcome == Later("can't be reached: ConnectError")


def test_an_answer_without_end_is_not_read() -> None:
    """Four megabytes are more than any of them has to say."""

    async def story() -> None:
        def endless(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=b"x" * (4 * 1024 * 1024 + 1))

        async with httpx.AsyncClient(transport=httpx.MockTransport(endless)) as http:
            await call(http, "GET", "http://x")

    with pytest.raises(Failed, match="larger than"):
        asyncio.run(story())


def test_a_page_is_made_once_and_updated(others: Services) -> None:
    """The first update makes the incident, with our id in it; the others add to it."""
    sender, first = statuspage(others)
    outcomes = sent(sender, first, update("identified", "page1"), update("resolved", "page1"))
    assert outcomes == [Delivered("page1")] * 3
    words = [
        (status, f"words of {status}") for status in ("investigating", "identified", "resolved")
    ]
    assert others.updates() == [words]
    assert others.page["page1"]["metadata"] == {"radgateway": {"incident": "INC-7"}}
    assert others.page["page1"]["impact"] == "major"


@pytest.mark.parametrize("trouble", ["lose", "cut"])
def test_a_try_that_may_have_arrived_is_looked_for(others: Services, trouble: str) -> None:
    """Whether it had or not: the page has one incident, and each update once."""
    for job in (update(), update("resolved", "page1")):
        sender, _ = statuspage(others)
        others.troubled("statuspage", trouble)
        first, second = sent(sender, job, job._replace(attempts=1))
        assert isinstance(first, Later)
        assert second == Delivered("page1")
    assert others.updates() == [
        [("investigating", "words of investigating"), ("resolved", "words of resolved")]
    ]


def test_the_page_of_another_is_left_alone(others: Services) -> None:
    """Incidents that people made on the page have other metadata, or none."""
    others.page["page1"] = {"id": "page1", "metadata": None, "incident_updates": []}
    others.page["page2"] = {"id": "page2", "metadata": {"radgateway": {"incident": "INC-8"}}}
    sender, job = statuspage(others)
    assert sent(sender, job._replace(attempts=3)) == [Delivered("page3")]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"<html>"])
def test_an_answer_in_no_known_form_is_no_success(body: bytes) -> None:
    """A proxy's page of good wishes publishes nothing."""
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    )
    sender = Statuspage(http, "http://page", PAGE, Pace(0.0, lambda: 0.0))
    (outcome,) = sent(sender, update())
    assert outcome == Refused("its answer is in no form that is known")


def test_calls_are_a_second_apart() -> None:
    """From the end of one to the beginning of the next, however it ended; the first as if one had
    just ended, since it may have, in a process that was killed."""
    waited: list[float] = []
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        waited.append(round(seconds, 3))
        now += seconds

    async def story() -> None:
        nonlocal now
        pace = Pace(1.0, lambda: now, sleep)
        for pause, takes in ((0.0, 0.2), (0.0, 3.0), (0.5, 0.0), (5.0, 0.0)):
            now += pause
            with contextlib.suppress(KeyError):
                async with pace.turn():
                    now += takes
                    raise KeyError

    asyncio.run(story())
    assert waited == [1.0, 1.0, 0.5]


def test_the_real_pace_is_slow_enough(others: Services) -> None:
    """Three requests in a row, and the page has no reason to slow us down."""
    others.throttles = True
    http = client(authorization(TOKEN))
    sender = Statuspage(http, others.url, PAGE, Pace(1.0, time.monotonic))
    sent(sender, update(), update("resolved", "page1", attempts=1))
    assert others.refused == []
    assert len(others.asked) == 3
