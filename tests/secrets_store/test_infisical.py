"""Asking the store, over real sockets: what it answers, how it fails, and what never shows."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from radgateway.chaos.fake_infisical import FakeInfisical
from radgateway.config.secrets import Secret
from radgateway.config.secrets_store import InfisicalConfig
from radgateway.secrets.at_start import store_client
from radgateway.secrets.infisical import ANSWER_MAX_BYTES, AccessToken, InfisicalStore, StoreFailed
from radgateway.secrets.reading import StoreReading


@pytest.fixture
def fake() -> Iterator[FakeInfisical]:
    with FakeInfisical() as server:
        server.values["/"] = {"OPENAI": "sk-in-the-store", "OTHER": "x"}
        yield server


def settings_of(fake: FakeInfisical, **more: Any) -> InfisicalConfig:
    given: dict[str, Any] = {
        "url": fake.url,
        "project_id": fake.project_id,
        "environment": fake.environment,
        "client_id": Secret(fake.client_id),
        "client_secret": Secret(fake.client_secret),
        **more,
    }
    return InfisicalConfig(**given)


@contextlib.asynccontextmanager
async def store(fake: FakeInfisical, **more: Any) -> AsyncIterator[InfisicalStore]:
    settings = settings_of(fake, **more)
    client = store_client(settings)
    try:
        yield InfisicalStore(settings, client)
    finally:
        await client.aclose()


async def failure(asked: InfisicalStore, folder: str = "/") -> StoreFailed:
    with pytest.raises(StoreFailed) as caught:
        await asked.read([folder])
    return caught.value


def test_secrets_are_read_by_folder_with_one_login(fake: FakeInfisical) -> None:
    """The token of the first reading serves the next ones."""
    fake.values["/deep/er"] = {"A": "1"}

    async def main() -> None:
        async with store(fake) as asked:
            before = time.time()
            reading = await asked.read(["/", "/deep/er"])
            assert reading.values == {"/": fake.values["/"], "/deep/er": {"A": "1"}}
            assert before <= reading.read_at <= time.time()
            assert not reading.stale
            fake.values["/"]["OPENAI"] = "sk-another"
            assert (await asked.read(["/"])).values["/"]["OPENAI"] == "sk-another"

    asyncio.run(main())
    assert fake.logins == 1


def test_an_older_server_is_asked_in_its_own_way(fake: FakeInfisical) -> None:
    """Without `/api/v4/secrets` the list comes from v3, and v4 is not tried each time."""
    fake.old = True

    async def main() -> None:
        async with store(fake) as asked:
            for _ in range(2):
                assert (await asked.read(["/"])).values["/"] == fake.values["/"]

    asyncio.run(main())
    assert fake.lists == 2


def test_imports_stand_behind_a_folders_own_and_hidden_values_are_none(
    fake: FakeInfisical,
) -> None:
    """As Infisical's own clients have it: the last import wins, the folder's own over all."""
    fake.values["/"] = {"A": "own", "H": "hidden"}
    fake.imports["/"] = [{"A": "first", "B": "first", "C": "first"}, {"B": "last"}]
    fake.hidden.add("H")

    async def main() -> StoreReading:
        async with store(fake) as asked:
            return await asked.read(["/"])

    assert asyncio.run(main()).values["/"] == {"A": "own", "B": "last", "C": "first"}


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_a_token_that_has_ended_makes_one_login_anew(fake: FakeInfisical, end: str) -> None:
    """403 for one that is over, 401 for one that was revoked: neither is a failure."""

    async def main() -> None:
        async with store(fake) as asked:
            await asked.read(["/"])
            if end == "revoked":
                fake.revoke_tokens()
            else:
                fake._tokens = dict.fromkeys(fake._tokens, 0.0)
            assert (await asked.read(["/"])).values["/"] == fake.values["/"]

    asyncio.run(main())
    assert fake.logins == 2


def test_a_refusal_of_a_new_token_is_not_tried_again(fake: FakeInfisical) -> None:
    """A login that was just made and does not help is a failure, not a loop."""
    fake.token_ttl_s = -1.0

    async def main() -> StoreFailed:
        async with store(fake) as asked:
            return await failure(asked)

    assert asyncio.run(main()).status == 403
    assert fake.logins == 1


def test_a_token_is_renewed_before_it_ends() -> None:
    """At nine tenths of its life, or five minutes before its end where that is later."""
    short, long = AccessToken("t", 100.0, now=1000.0), AccessToken("t", 86_400.0, now=0.0)
    assert short.usable(1089.9)
    assert not short.usable(1090.0)
    assert long.usable(86_099.0)
    assert not long.usable(86_100.0)


def test_a_given_token_takes_the_place_of_a_login(fake: FakeInfisical) -> None:
    """`token` is sent as it is; when it ends nothing can renew it."""
    _, login = fake._login({"clientId": fake.client_id, "clientSecret": fake.client_secret})

    async def main() -> None:
        token = Secret(login["accessToken"])
        async with store(fake, token=token, client_id=None, client_secret=None) as asked:
            assert (await asked.read(["/"])).values["/"] == fake.values["/"]
            fake.revoke_tokens()
            assert (await failure(asked)).status == 401

    asyncio.run(main())
    assert fake.logins == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503])
def test_a_refusal_says_its_status_and_the_way_out(fake: FakeInfisical, status: int) -> None:
    """With the time that the store asks to be left alone."""
    fake.status, fake.retry_after = status, "7"

    async def main() -> StoreFailed:
        async with store(fake) as asked:
            return await failure(asked)

    failed = asyncio.run(main())
    assert (failed.status, failed.retry_after_s) == (status, 7.0)
    assert f"answered {status}" in str(failed)
    assert fake.client_secret not in str(failed)


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"project_id": "other"}, "let the identity read"),
        ({"environment": "dev"}, "check project_id, environment and path"),
        ({"client_id": Secret("nobody")}, "check client_id and client_secret"),
    ],
)
def test_wrong_settings_are_told_apart(
    fake: FakeInfisical, wrong: dict[str, Any], advice: str
) -> None:
    """As far as the store's answer tells them."""

    async def main() -> StoreFailed:
        async with store(fake, **wrong) as asked:
            return await failure(asked)

    assert advice in str(asyncio.run(main()))


@pytest.mark.parametrize(
    "body", [b"", b"<html>sk-leaked</html>", b'{"secrets": "sk-leaked"}', b'{"secrets": [{}]}']
)
def test_what_is_no_list_is_refused_without_being_quoted(fake: FakeInfisical, body: bytes) -> None:
    """A proxy's page is no set of secrets."""
    fake.body = body

    async def main() -> StoreFailed:
        async with store(fake) as asked:
            return await failure(asked)

    message = str(asyncio.run(main()))
    assert "something else" in message
    assert "sk-leaked" not in message


def test_an_answer_without_end_is_not_read(fake: FakeInfisical) -> None:
    """More bytes than any set of secrets has."""
    fake.body = b" " * (ANSWER_MAX_BYTES + 1)

    async def main() -> StoreFailed:
        async with store(fake) as asked:
            return await failure(asked)

    assert "answered more than" in str(asyncio.run(main()))


def test_a_store_that_hangs_is_given_up(fake: FakeInfisical) -> None:
    """The whole reading has one limit in time."""

    async def main() -> tuple[StoreFailed, float]:
        async with store(fake, timeout_s=0.2) as asked:
            began = time.monotonic()
            return await failure(asked), time.monotonic() - began

    with fake.hanging():
        failed, took_s = asyncio.run(main())
    assert failed.status == 0
    assert took_s < 2


def test_a_store_that_is_gone_is_said_to_be_and_comes_back(fake: FakeInfisical) -> None:
    """Refused connections fail at once; the next reading after its return succeeds."""

    async def main() -> None:
        async with store(fake) as asked:
            await asked.read(["/"])
            await asyncio.to_thread(fake.refuse)
            assert "can't be reached" in str(await failure(asked))
            fake.listen()
            await asked.read(["/"])

    asyncio.run(main())


def test_the_stores_certificate_is_verified(tmp_path: Path) -> None:
    """By the authority of `ca_file`; without it a stranger's is refused before a secret is sent."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))

    async def main(fake: FakeInfisical) -> None:
        async with store(fake, ca_file=str(ca_file)) as asked:
            await asked.read(["/"])
        async with store(fake) as asked:
            assert "certificate" in str(await failure(asked))

    with FakeInfisical(context=context) as fake:
        asyncio.run(main(fake))
        assert fake.logins == 1
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(StoreFailed, match="can't be used"):
        store_client(settings_of(fake, ca_file=str(tmp_path / "none.pem")))


def test_a_cancelled_reading_ends_at_once(fake: FakeInfisical) -> None:
    """Its connection is closed, and the next one is a new one."""

    async def main() -> None:
        async with store(fake) as asked:
            with fake.hanging():
                task = asyncio.create_task(asked.read(["/"]))
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asked.read(["/"])

    asyncio.run(main())
