"""When the keys are fetched, who waits for them and how long, and what holds meanwhile."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import minting
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minting import jwk, jwks
from virtual_time import now, run_virtual

from radgateway.inbound.key_renewal import Fetched, KeysUnavailable, RenewedKeys

FIRST = minting.KEY_SET
SECOND = jwks(jwk("RS256", "rsa-1", 1))


class Issuer:
    """Who publishes the set: the test says what, how slowly, and whether at all."""

    def __init__(self, document: bytes = FIRST) -> None:
        self.document: bytes | None = document
        self.takes_s = 0.05
        self.skew_s: float | None = None
        self.asked: list[float] = []

    async def fetch(self) -> Fetched:
        self.asked.append(now())
        await asyncio.sleep(self.takes_s)
        if self.document is None:
            raise KeysUnavailable("the issuer is away")
        return Fetched(self.document, self.skew_s)


def keys_of(issuer: Issuer, **options: Any) -> RenewedKeys:
    """A source by the loop's own, virtual clock."""
    return RenewedKeys(issuer.fetch, clock=now, rng=random.Random(7), **options)


def has(source: RenewedKeys, kid: str) -> bool:
    keys = source.current()
    return keys is not None and keys.find("RS256", kid) is not None


def test_keys_are_there_soon_after_the_start_and_stay_fresh() -> None:
    """Fetched at once, then every five minutes or so; a withdrawn key is gone with the next."""

    async def story() -> None:
        issuer = Issuer()
        source = keys_of(issuer)
        assert source.current() is None
        assert source.state == "unavailable"
        source.start()
        source.start()
        await asyncio.sleep(0.1)
        assert has(source, "rsa-0")
        assert source.state == "ok"
        before = source.current()
        await asyncio.sleep(1000)
        assert 3 <= len(issuer.asked) <= 5
        pauses = [b - a for a, b in zip(issuer.asked, issuer.asked[1:], strict=False)]
        assert all(269 <= pause <= 331 for pause in pauses)
        assert source.current() is before, "the same set is the same object"
        issuer.document = SECOND
        await asyncio.sleep(331)
        assert has(source, "rsa-1")
        assert not has(source, "rsa-0")
        await source.aclose()

    run_virtual(story())


def test_an_unknown_key_is_fetched_for_at_once_and_once() -> None:
    """A hundred tokens by a new key make one fetch, and each waits for that one."""

    async def story() -> None:
        issuer = Issuer()
        source = keys_of(issuer)
        source.start()
        await asyncio.sleep(60)
        assert len(issuer.asked) == 1
        issuer.document = SECOND
        began = now()
        found = await asyncio.gather(*(source.renewed() for _ in range(100)))
        assert found == [True] * 100
        assert now() - began == pytest.approx(issuer.takes_s)
        assert len(issuer.asked) == 2
        assert has(source, "rsa-1")
        await source.aclose()

    run_virtual(story())


def test_the_first_token_starts_what_nobody_started() -> None:
    """Used alone in somebody's app, without a lifespan."""

    async def story() -> None:
        source = keys_of(Issuer())
        assert await source.renewed()
        assert has(source, "rsa-0")
        await source.aclose()

    run_virtual(story())


def test_made_up_key_ids_do_not_flood_the_issuer() -> None:
    """In the cool-down of 10 s nobody waits and nothing is fetched; its end brings one fetch."""

    async def story() -> None:
        issuer = Issuer()
        source = keys_of(issuer)
        source.start()
        await asyncio.sleep(0.1)
        for _ in range(1000):
            began = now()
            await source.renewed()
            assert now() - began <= issuer.takes_s + 1e-6
            await asyncio.sleep(0.1)
        # 100 s of it: at most one fetch each 10 s
        pauses = [b - a for a, b in zip(issuer.asked, issuer.asked[1:], strict=False)]
        assert len(pauses) >= 8
        assert min(pauses) >= 10
        await source.aclose()

    run_virtual(story())


def test_a_new_key_that_comes_in_the_cool_down_works_after_it() -> None:
    """Whoever asked in vain has brought about the fetch that the next finds done."""

    async def story() -> None:
        issuer = Issuer()
        source = keys_of(issuer)
        source.start()
        await asyncio.sleep(1)
        issuer.document = SECOND
        assert not await source.renewed()
        await asyncio.sleep(9.5)
        assert has(source, "rsa-1")
        await source.aclose()

    run_virtual(story())


@pytest.mark.parametrize("takes_s", [1.5, 30.0, 10_000.0])
def test_no_request_waits_longer_than_its_bound(takes_s: float) -> None:
    """A slow issuer costs a request one second, and the fetch goes on without it."""

    async def story() -> None:
        issuer = Issuer()
        issuer.takes_s = takes_s
        source = keys_of(issuer, wait_s=1.0)
        source.start()
        for _ in range(3):
            began = now()
            assert not await source.renewed() or takes_s < 3
            assert now() - began <= 1.0 + 1e-6
        assert len(issuer.asked) == 1
        await source.aclose()

    run_virtual(story())


def test_who_stops_waiting_stops_nothing() -> None:
    """A client that leaves while its token waits ends its own wait alone."""

    async def story() -> None:
        issuer = Issuer()
        issuer.takes_s = 0.5
        source = keys_of(issuer)
        waits = [asyncio.ensure_future(source.renewed()) for _ in range(3)]
        await asyncio.sleep(0.1)
        waits[1].cancel()
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert found[0] is True
        assert isinstance(found[1], asyncio.CancelledError)
        assert found[2] is True
        await source.aclose()

    run_virtual(story())


def test_the_last_good_keys_hold_until_they_are_stale() -> None:
    """An issuer that is away, or answers nonsense, withdraws nothing for a while, then all."""

    async def story() -> None:
        changes: list[tuple[bool, str]] = []
        issuer = Issuer()
        source = keys_of(
            issuer, max_stale_s=3600, on_change=lambda good, why: changes.append((good, why))
        )
        source.start()
        await asyncio.sleep(1)
        assert changes == []
        issuer.document = None
        await asyncio.sleep(1800)
        assert has(source, "rsa-0")
        assert source.state == "stale"
        issuer.document = b"<html>maintenance</html>"
        await asyncio.sleep(1700)
        assert has(source, "rsa-0")
        assert changes == [(False, "the issuer is away")], "one word for each change"
        await asyncio.sleep(200)
        assert source.current() is None
        assert source.state == "unavailable"
        issuer.document = SECOND
        assert await source.renewed()
        assert has(source, "rsa-1")
        assert not has(source, "rsa-0")
        assert changes[1:] == [(True, "")]
        assert source.state == "ok"
        await source.aclose()

    run_virtual(story())


def test_stale_keys_that_are_found_good_again_hold_for_the_token_that_asked() -> None:
    """The same set, fetched anew, is as good as a new one."""

    async def story() -> None:
        issuer = Issuer()
        source = keys_of(issuer, max_stale_s=100)
        source.start()
        await asyncio.sleep(1)
        issuer.document = None
        await asyncio.sleep(600)
        assert source.current() is None
        issuer.document = FIRST
        assert await source.renewed()
        assert has(source, "rsa-0")
        await source.aclose()

    run_virtual(story())


def test_failures_are_tried_again_sooner_and_then_ever_later() -> None:
    """From 20 s up to the usual pause: an issuer that restarts is found soon, and not hammered."""

    async def story() -> None:
        issuer = Issuer()
        issuer.document = None
        source = keys_of(issuer)
        source.start()
        await asyncio.sleep(3600)
        pauses = [b - a for a, b in zip(issuer.asked, issuer.asked[1:], strict=False)]
        for pause, expected in zip(pauses, [20, 40, 80, 160, 300, 300, 300], strict=False):
            assert expected * 0.9 - 0.1 <= pause <= expected * 1.1 + 0.1
        await source.aclose()

    run_virtual(story())


def test_an_empty_set_is_believed() -> None:
    """A well-formed answer of no keys is the issuer's word, and readiness shows it."""

    async def story() -> None:
        issuer = Issuer()
        source = keys_of(issuer)
        source.start()
        await asyncio.sleep(60)
        issuer.document = b'{"keys": []}'
        assert await source.renewed()
        assert source.current() is not None
        assert not has(source, "rsa-0")
        assert source.state == "unusable"
        await source.aclose()

    run_virtual(story())


def test_what_a_fetch_tells_of_the_clocks_is_passed_on() -> None:
    """For whoever warns of it, before tokens fail."""

    async def story() -> None:
        told: list[float] = []
        issuer = Issuer()
        source = keys_of(issuer, on_skew=told.append)
        source.start()
        await asyncio.sleep(60)
        issuer.skew_s = -75.0
        await source.renewed()
        assert told == [-75.0]
        await source.aclose()

    run_virtual(story())


def test_it_can_be_closed_at_any_time_and_leaves_no_task() -> None:
    """Before it began, in a fetch, in the cool-down, and in the pause."""

    async def story() -> None:
        await keys_of(Issuer()).aclose()
        for moment in (0.0, 0.01, 1.0, 100.0):
            source = keys_of(Issuer())
            source.start()
            await asyncio.sleep(moment)
            await source.aclose()
            await source.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(story())


def test_a_bug_in_a_fetch_ends_one_round_and_not_the_renewal() -> None:
    """The next token that needs keys begins anew."""

    async def story() -> None:
        issuer = Issuer()
        broken = True

        async def fetch() -> Fetched:
            if broken:
                raise ZeroDivisionError
            return await issuer.fetch()

        source = RenewedKeys(fetch, clock=now)
        source.start()
        task = source._task
        assert task is not None
        await asyncio.wait([task])
        assert isinstance(task.exception(), ZeroDivisionError)
        broken = False
        assert await source.renewed()
        await source.aclose()

    run_virtual(story())


@pytest.mark.parametrize("name", ["refresh_s", "max_stale_s"])
def test_times_that_make_no_sense_are_refused(name: str) -> None:
    """A ValueError that starts with the name."""
    with pytest.raises(ValueError, match=f"^{name} "):
        RenewedKeys(Issuer().fetch, **{name: 0})  # type: ignore[arg-type]


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0.01, 400)),
        st.tuples(st.just("ask"), st.integers(1, 5)),
        st.tuples(st.just("publish"), st.sampled_from([FIRST, SECOND, None, b"junk"])),
        st.tuples(st.just("slow"), st.floats(0, 20)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps=_steps)
def test_whatever_happens_the_bounds_hold(steps: list[tuple[str, Any]]) -> None:
    """Never two fetches within the cool-down, never a wait beyond its bound, never keys too old,
    never keys that were not published."""

    async def story() -> None:
        issuer = Issuer()
        good: list[float] = []

        async def fetch() -> Fetched:
            fetched = await issuer.fetch()
            if fetched.document in (FIRST, SECOND):
                good.append(now())
            return fetched

        source = RenewedKeys(fetch, clock=now, rng=random.Random(1), refresh_s=100, max_stale_s=300)
        source.start()
        for step, value in steps:
            if step == "wait":
                await asyncio.sleep(value)
            elif step == "ask":
                began = now()
                await asyncio.gather(*(source.renewed() for _ in range(value)))
                assert now() - began <= 1.0 + 1e-6
            elif step == "publish":
                issuer.document = value
            else:
                issuer.takes_s = value
            keys = source.current()
            if keys is not None:
                assert now() - good[-1] <= 300
                assert keys.find("RS256", "rsa-0") or keys.find("RS256", "rsa-1")
            elif good:
                assert now() - good[-1] > 300
        pauses = [b - a for a, b in zip(issuer.asked, issuer.asked[1:], strict=False)]
        assert all(pause >= 10 - 1e-6 for pause in pauses)
        await source.aclose()

    run_virtual(story())
