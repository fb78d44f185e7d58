"""The API: who may do what, what a 2xx promises, and what the desk makes of a story."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from drive import drive, http_scope
from incident import stories
from incident.services import PAGE, ROUTING_KEY, TOKEN, Services, services
from incident.stories import BEGAN, notification
from msgspec import structs
from prometheus_client import CollectorRegistry

from radgateway.config.schema import AdminKeyConfig
from radgateway.config.secrets import Secret
from radgateway.incident.api import AlertmanagerWebhook
from radgateway.incident.app import create_incident_app
from radgateway.incident.desk import OPEN_MAX, Desk, Rules
from radgateway.incident.notices import Message
from radgateway.incident.settings import (
    AlertmanagerConfig,
    IncidentConfig,
    PagerDutyConfig,
    StatuspageConfig,
)
from radgateway.incident.store import Store
from radgateway.incident.telemetry import IncidentInstruments
from radgateway.incident.transaction import WAITING_MAX, Transaction

WEBHOOK = "/v0/incidents/alertmanager"
SOURCE = {"authorization": "Bearer source-key"}
LIMIT_S = 10.0


def config(folder: Path, others: Services | None = None, **more: Any) -> IncidentConfig:
    """All of it on this machine; whoever is told only where there are services."""
    made = IncidentConfig(
        store=str(folder / "incidents.db"),
        sources=(AdminKeyConfig(name="alertmanager", secret=Secret("source-key")),),
        responders=(AdminKeyConfig(name="alice", secret=Secret("alice-key")),),
        **more,
    )
    if others is None:
        return made
    return replace(
        made,
        slack={name: Secret(f"{others.url}/services/{name}") for name in ("war_room", "tickets")},
        statuspage=StatuspageConfig(page=PAGE, token=Secret(TOKEN), url=others.url),
        pagerduty=PagerDutyConfig(routing_key=Secret(ROUTING_KEY), url=others.url),
    )


@contextlib.asynccontextmanager
async def asking(
    made: IncidentConfig, clock: Callable[[], float] = time.time
) -> AsyncIterator[httpx.AsyncClient]:
    """A responder's client of an app that runs in this process."""
    app = create_incident_app(made, clock=clock)
    headers = {"authorization": "Bearer alice-key"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client,
    ):
        yield client


def told(story: Awaitable[None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(LIMIT_S):
            await story

    asyncio.run(within())


async def fire(client: httpx.AsyncClient, *args: Any, **said: Any) -> Any:
    answer = await client.post(WEBHOOK, json=notification(*args, **said), headers=SOURCE)
    assert answer.status_code == 200, answer.text
    return answer.json()["incident"]


async def until(what: Callable[[], Any]) -> None:
    """Wait for what happens in another thread; the test's limit ends it."""
    while not what():
        await asyncio.sleep(0.02)


def test_a_group_is_one_incident_however_often_it_is_told(tmp_path: Path) -> None:
    """Repeated, added to and ended: the list shows one, as the release gate reads it."""

    async def story() -> None:
        async with asking(config(tmp_path)) as client:
            assert {await fire(client) for _ in range(3)} == {"INC-1"}
            assert await fire(client, fingerprint="f2") == "INC-1"
            assert await fire(client, key="another group") == "INC-2"
            found = (await client.get("/v0/incidents?open=true")).json()
            assert [(each["id"], len(each["alerts"])) for each in found["data"]] == [
                ("INC-2", 1),
                ("INC-1", 2),
            ]
            one = found["data"][1]
            assert (one["severity"], one["state"], one["priority"]) == ("SEV-2", "detected", "P1")
            assert one["startedAt"] == "2026-11-25T10:00:00.000Z"
            for fingerprint in ("f1", "f2"):
                await fire(client, status="resolved", fingerprint=fingerprint)
            found = (await client.get("/v0/incidents?open=true")).json()
            assert [each["id"] for each in found["data"]] == ["INC-2"]
            assert (await client.get("/v0/incidents/INC-1")).json()["state"] == "resolved"

    told(story())


def test_one_that_comes_back_soon_is_the_same(tmp_path: Path) -> None:
    """Within `reopen_s` it is opened again; after that it is another."""
    now = time.time()

    async def story() -> None:
        nonlocal now
        async with asking(config(tmp_path, reopen_s=60.0), lambda: now) as client:
            assert await fire(client) == "INC-1"
            await fire(client, status="resolved")
            now += 60
            assert await fire(client) == "INC-1"
            assert (await client.get("/v0/incidents/INC-1")).json()["state"] == "detected"
            await fire(client, status="resolved")
            now += 61
            assert await fire(client) == "INC-2"

    told(story())


def test_the_end_of_what_nobody_knew_is_no_incident(tmp_path: Path) -> None:
    """Nor is the proof that alerting works."""

    async def story() -> None:
        async with asking(config(tmp_path)) as client:
            assert await fire(client, status="resolved") is None
            assert await fire(client, "Watchdog", priority="none") is None
            assert (await client.get("/v0/incidents")).json()["data"] == []
            counted = (await client.get("/metrics")).text
            assert 'rad_incident_notifications_total{outcome="ignored"} 2.0' in counted

    told(story())


def test_a_responder_leads_it_to_its_end(tmp_path: Path) -> None:
    """Every order is a line of the timeline with a name; the postmortem has them all."""

    async def story() -> None:
        async with asking(config(tmp_path), lambda: BEGAN + 86_400) as client:
            path = f"/v0/incidents/{await fire(client)}"
            for what, order, state in (
                ("acknowledge", {}, "triaged"),
                ("severity", {"severity": "SEV-1", "text": "nobody is served"}, "triaged"),
                ("respond", {"text": "rolling back"}, "responding"),
                ("note", {"text": "1.4.2 is out"}, "responding"),
                ("resolve", {}, "resolved"),
                ("verdict", {"verdict": "useful"}, "resolved"),
                ("close", {"postmortem": "https://pm.example.invalid/1"}, "closed"),
            ):
                answer = await client.post(f"{path}/{what}", json=order)
                assert (answer.status_code, answer.json()["state"]) == (200, state), what
            lines = answer.json()["timeline"]
            assert {line["by"] for line in lines[2:]} == {"alice"}
            assert [line["what"] for line in lines[2:]] == [
                "acknowledged", "severity", "responding", "note", "resolved", "verdict", "closed",
            ]  # fmt: skip
            page = await client.get(f"{path}/postmortem")
            assert page.headers["content-type"] == "text/markdown; charset=utf-8"
            assert "| alice | note: 1.4.2 is out |" in page.text
            for since, incidents in (("2h", 0), ("7d", 1)):
                found = (await client.get(f"/v0/incidents/review?since=-{since}")).json()
                assert (found["incidents"], found["verdict"]) == (incidents, "met")

    told(story())


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/v0/incidents/INC-1/respond", {"by": "bob"}, 400, "invalid_request"),
    ("POST", "/v0/incidents/INC-1/severity", {"severity": "SEV-5"}, 400, "invalid_request"),
    ("POST", "/v0/incidents/INC-1/note", {}, 400, "invalid_request"),
    ("POST", "/v0/incidents/INC-1/note", {"text": "x" * 20_000}, 413, "body_too_large"),
    ("POST", "/v0/incidents/INC-1/close", {}, 409, "wrong_state"),
    ("POST", "/v0/incidents/INC-1/close", {"postmortem": "javascript:x"}, 400, "invalid_request"),
    ("POST", "/v0/incidents/INC-1/publish", {"number": 1}, 409, "wrong_state"),
    ("POST", "/v0/incidents/INC-9/respond", {}, 404, "unknown_incident"),
    ("GET", "/v0/incidents/INC-9", None, 404, "unknown_incident"),
    ("GET", "/v0/incidents/9", None, 404, "unknown_incident"),
    ("GET", "/v0/incidents/INC-9/postmortem", None, 404, "unknown_incident"),
    ("GET", "/v0/incidents/INC-1/respond", None, 405, "method_not_allowed"),
    ("POST", "/v0/incidents/INC-1/delete", {}, 404, "unknown_path"),
    ("GET", "/v0/incidents?open=yes", None, 400, "invalid_request"),
    ("GET", "/v0/incidents?severity=1", None, 400, "invalid_request"),
    ("GET", "/v0/incidents?opne=true", None, 400, "invalid_request"),
    ("GET", "/v0/incidents?cursor=5", None, 400, "invalid_request"),
    ("GET", "/v0/incidents/review?since=soon", None, 400, "invalid_request"),
    ("GET", "/v0/other", None, 404, "unknown_path"),
    ("POST", "/v0/deployments/d1/end", {}, 409, "wrong_state"),
    ("POST", "/v0/deployments", {"version": "1"}, 400, "invalid_request"),
    (
        "POST",
        "/v0/deployments",
        {"version": "1", "environment": "production", "duration_s": 86_400},
        400,
        "invalid_request",
    ),
]


def test_what_can_not_be_is_refused_with_advice(tmp_path: Path) -> None:
    """In the gateway's own form, with a stable code; and nothing has changed by it."""

    async def story() -> None:
        async with asking(config(tmp_path)) as client:
            await fire(client)
            before = (await client.get("/v0/incidents/INC-1")).json()
            for method, path, body, status, code in REFUSED:
                answer = await client.request(method, path, json=body)
                said = (answer.status_code, answer.json()["error"]["code"])
                assert said == (status, code), (method, path, answer.text)
            assert (await client.get("/v0/incidents/INC-1")).json() == before

    told(story())


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        (None, WEBHOOK, 401),
        ("wrong", WEBHOOK, 401),
        ("source-key", WEBHOOK, 405),
        ("alice-key", WEBHOOK, 405),
        (None, "/v0/incidents", 401),
        ("source-key", "/v0/incidents", 403),
        ("source-key", "/v0/incidents/INC-1/postmortem", 403),
        ("source-key", "/v0/deployments", 403),
        (None, "/v0/nothing", 401),
        ("alice-key", "/v0/deployments", 200),
        (None, "/health", 200),
        (None, "/health/ready", 200),
        (None, "/metrics", 200),
    ],
)
def test_nothing_is_open_but_health_and_metrics(
    tmp_path: Path, key: str | None, path: str, status: int
) -> None:
    """Who reports alerts sees no incident, and nobody without a key sees anything."""

    async def story() -> None:
        async with asking(config(tmp_path)) as client:
            headers = {"authorization": f"Bearer {key}"} if key else {"authorization": ""}
            assert (await client.get(path, headers=headers)).status_code == status

    told(story())


def test_a_caller_has_a_limit(tmp_path: Path) -> None:
    """429 with Retry-After, per key."""

    async def story() -> None:
        async with asking(config(tmp_path, limit="2/minute")) as client:
            answers = [await client.get("/v0/incidents") for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]
            assert int(answers[2].headers["retry-after"]) >= 1
            await fire(client)  # another's

    told(story())


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "invalid_json"), (b"[]", "invalid_request"), (b'{"version": "5"}', "invalid_request")],
)
def test_another_form_is_an_error(tmp_path: Path, body: bytes, code: str) -> None:
    """A 4xx, which Alertmanager does not repeat: it would be the same."""

    async def story() -> None:
        async with asking(config(tmp_path)) as client:
            answer = await client.post(WEBHOOK, content=body, headers=SOURCE)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)

    told(story())


def test_what_is_not_stored_is_not_taken(tmp_path: Path) -> None:
    """A 503 while the disk is full: Alertmanager repeats it, and then it is there."""
    store = Store(str(tmp_path / "incidents.db"), lambda: BEGAN)
    rules = Rules(
        reopen_s=60,
        keep_days=7,
        told=frozenset(),
        audiences=frozenset(),
        auto_publish=False,
    )
    desk = Desk(store, rules, IncidentInstruments(CollectorRegistry()))
    webhook = AlertmanagerWebhook(desk, max_body_bytes=1_000_000, body_timeout_s=1.0)

    body = notification(annotations={"description": "x" * 1_000})
    (one,) = body["alerts"]
    body["alerts"] = [{**one, "fingerprint": str(number)} for number in range(100)]

    async def fired() -> tuple[int, str | None, bytes]:
        answer = await drive(webhook, http_scope(WEBHOOK), json.dumps(body).encode())
        return answer.status, answer.header("retry-after"), answer.body

    async def story() -> None:
        # SQLite itself says so: the file may not grow by a page.
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        status, retry_after, said = await fired()
        assert (status, retry_after) == (503, "5")
        assert b"database or disk is full" in said
        store._connection.execute("PRAGMA max_page_count = 10000")
        status, _, said = await fired()
        assert (status, said) == (200, b'{"incident":"INC-1"}')
        await desk.aclose()

    told(story())


def test_incidents_without_number_are_refused(tmp_path: Path) -> None:
    """Alerts grouped wrongly fill no disk: at some number the next waits, and the known go on."""
    store = Store(str(tmp_path / "incidents.db"), lambda: BEGAN)

    def many(tx: Transaction) -> None:
        for number in range(OPEN_MAX):
            record = stories.incident(number=0)
            tx.save(structs.replace(record, group_key=f"group {number}"))

    store.transact(many)
    store.close()

    async def story() -> None:
        async with asking(config(tmp_path)) as client:
            assert await fire(client, key="group 7", fingerprint="f2") == "INC-8"
            body = notification(key="another")
            answer = await client.post(WEBHOOK, json=body, headers=SOURCE)
            assert answer.status_code == 503
            assert "1000 incidents are open: resolve some" in answer.text

    told(story())


def test_what_there_is_no_room_for_is_said_to_be_lost(tmp_path: Path) -> None:
    """In the timeline and the metrics; an update that was lost may be published again."""
    with services() as others:
        store = Store(str(tmp_path / "incidents.db"), lambda: BEGAN)

        def full(tx: Transaction) -> None:
            for _ in range(WAITING_MAX):
                tx.queue(Message("statuspage", "INC-99", {"draft": 1}))

        store.transact(full)
        store.close()
        others.troubled("statuspage", *["hang"] * 3)

        async def story() -> None:
            async with asking(config(tmp_path, others)) as client:
                path = f"/v0/incidents/{await fire(client)}"
                await client.post(f"{path}/publish", json={"number": 1})
                shown = (await client.get(path)).json()
                assert shown["drafts"][0]["state"] == "failed"
                assert "statuspage: too many wait" in [each["text"] for each in shown["timeline"]]
                lost = 'rad_incident_messages_total{destination="statuspage",outcome="lost"} 1.0'
                assert lost in (await client.get("/metrics")).text

        told(story())


def test_the_public_hears_what_a_person_has_agreed_to(tmp_path: Path) -> None:
    """A draft waits until it is published; the end updates the same incident of the page."""
    with services() as others:

        async def story() -> None:
            async with asking(config(tmp_path, others)) as client:
                path = f"/v0/incidents/{await fire(client)}"
                await until(lambda: others.slack)
                assert others.slack[0][0] == "war_room"
                assert others.page == {}
                (draft,) = (await client.get(path)).json()["drafts"]
                assert draft["state"] == "draft"
                answer = await client.post(f"{path}/publish", json={"number": 1})
                assert answer.status_code == 200
                again = await client.post(f"{path}/publish", json={"number": 1})
                assert again.status_code == 409
                await until(lambda: others.page)
                await fire(client, status="resolved")
                await until(lambda: len(others.slack) == 2)
                order = {"status": "resolved", "cause": "a disk", "link": "https://pm.invalid/1"}
                made = await client.post(f"{path}/draft", json=order)
                number = made.json()["drafts"][-1]["number"]
                await client.post(f"{path}/publish", json={"number": number})
                await until(lambda: len(others.updates()[0]) == 2)
                shown = (await client.get(path)).json()
                states = [(each["status"], each["state"]) for each in shown["drafts"]]
                assert states[0] == ("investigating", "published")
                assert states[1] == ("resolved", "withdrawn")
                assert "published" in [line["what"] for line in shown["timeline"]]

        told(story())
        ((first, last),) = others.updates()
        assert (first[0], last[0]) == ("investigating", "resolved")
        assert "Root cause: a disk\nPostmortem: https://pm.invalid/1" in last[1]
        assert others.refused == []


def test_where_nobody_is_asked_drafts_are_published(tmp_path: Path) -> None:
    """`auto_publish`, for those who want it."""
    with services() as others:
        made = config(tmp_path, others)
        assert made.statuspage is not None
        made = replace(made, statuspage=replace(made.statuspage, auto_publish=True))

        async def story() -> None:
            async with asking(made) as client:
                await fire(client)
                await until(lambda: others.page)

        told(story())
        assert others.updates()[0][0][0] == "investigating"


def test_a_person_reports_what_no_alert_sees(tmp_path: Path) -> None:
    """With a severity, which decides who hears of it."""
    with services() as others:

        async def story() -> None:
            async with asking(config(tmp_path, others)) as client:
                order = {"title": "A key has leaked", "severity": "SEV-3"}
                answer = await client.post("/v0/incidents", json=order)
                assert (answer.status_code, answer.json()["id"]) == (201, "INC-1")
                await until(lambda: others.slack)

        told(story())
        ((whom, text),) = others.slack
        assert whom == "tickets"
        assert "A key has leaked" in text


def test_a_deployment_without_alertmanager_is_told_of(tmp_path: Path) -> None:
    """A change event at its beginning and its end, once each however often it is said."""
    with services() as others:

        async def story() -> None:
            async with asking(config(tmp_path, others)) as client:
                order = {"version": "1.4.2", "environment": "production", "id": "d1"}
                for _ in range(2):
                    answer = await client.post("/v0/deployments", json=order)
                    assert (answer.status_code, answer.json()["silence"]) == (201, None)
                for _ in range(2):
                    ended = {"outcome": "rolled_back"}
                    answer = await client.post("/v0/deployments/d1/end", json=ended)
                    assert answer.json()["outcome"] == "rolled_back"
                await until(lambda: len(others.changes) == 2)
                again = await client.post("/v0/deployments", json=order)
                assert again.status_code == 409

        told(story())
        assert [change["summary"] for change in others.changes] == [
            "Deployment of rad-gateway 1.4.2 to production began",
            "Deployment of rad-gateway 1.4.2 to production ended: rolled back",
        ]


def test_a_silence_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    """The one who deploys knows that nothing is silenced, and may ask again."""
    nobody = AlertmanagerConfig(url="http://127.0.0.1:1")

    async def story() -> None:
        async with asking(config(tmp_path, alertmanager=nobody)) as client:
            order = {"version": "1.4.2", "environment": "production", "id": "d1"}
            for _ in range(2):
                answer = await client.post("/v0/deployments", json=order)
                assert (answer.status_code, answer.json()["error"]["code"]) == (
                    502,
                    "upstream_error",
                )
                assert "Ask again with the id d1" in answer.json()["error"]["message"]

    told(story())


def test_what_was_not_sent_is_sent_by_the_next_process(tmp_path: Path) -> None:
    """An app that ends in the middle leaves its messages to the one after it."""
    with services() as others:
        others.troubled("slack", 503)

        async def ends() -> None:
            async with asking(config(tmp_path, others)) as client:
                await fire(client)
                await until(lambda: others.asked)

        async def begins() -> None:
            async with asking(config(tmp_path, others)) as client:
                await until(lambda: others.slack)
                shown = (await client.get("/v0/incidents/INC-1")).json()
                assert shown["state"] == "detected"

        told(ends())
        assert others.slack == []
        told(begins())
        assert len(others.slack) == 1
