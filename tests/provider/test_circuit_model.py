"""The breaker against a model of it, through any interleaving of what can happen to two of them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from circuits import Clock
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.policy import Admission, BreakerPolicy
from radgateway.provider.circuit.probes import Probes
from radgateway.provider.circuit.standing import MODES, STATES, BreakerSnapshot, Verdict

WHICH = st.integers(0, 1)
VERDICTS: list[Verdict] = ["ok", "ok", "fail", "fail", "ignore", "limited", "unauthorized"]

Held = tuple[int, Admission, int]
"""Whose it is, what was admitted, and under how many changes of state."""


class Breakers(RuleBasedStateMachine):
    """Two breakers of one group; calls begin, end in any way and order, or never."""

    under_way = Bundle("under_way")

    @initialize(
        by_calls=st.booleans(),
        in_a_row=st.none() | st.integers(1, 5),
        probes=st.integers(1, 3),
        ramp_s=st.none() | st.just(20.0),
        ratio=st.sampled_from([None, 1.0]),
        seed=st.integers(0, 1000),
    )
    def begin(
        self,
        by_calls: bool,
        in_a_row: int | None,
        probes: int,
        ramp_s: float | None,
        ratio: float | None,
        seed: int,
    ) -> None:
        self.clock = Clock()
        self.config = BreakerConfig(
            window_s=10,
            window_calls=6 if by_calls else None,
            min_calls=3,
            consecutive_failures=in_a_row,
            half_open_calls=probes,
            half_open_max_s=40,
            open_max_s=100,
            ramp_s=ramp_s,
        )
        self.all_may_open = ratio == 1.0
        self.changes: list[list[tuple[str, str]]] = [[], []]
        self.refused = [0, 0]
        self.expected_refused = [0, 0]
        self.pair = [self._policy(number, seed) for number in (0, 1)]
        group = EjectionGroup(self.pair, max_open_ratio=ratio)
        for policy in self.pair:
            policy.join(group)
        # Probes under way, of each breaker: by the generation and round they were let through in.
        self.probes: list[Counter[tuple[int, int]]] = [Counter(), Counter()]
        self.by_hand = False

    def _policy(self, number: int, seed: int) -> BreakerPolicy:
        def refused(reason: str) -> None:
            self.refused[number] += 1

        return BreakerPolicy(
            self.config,
            clock=self.clock,
            rng=random.Random(seed),
            on_change=lambda old, new: self.changes[number].append((old, new)),
            on_refused=refused,
        )

    @rule(target=under_way, which=WHICH)
    def call(self, which: int) -> Held | None:
        policy, before = self.pair[which], self.pair[which].snapshot()
        blocked, available = policy.blocked_by(), policy.available()
        waits_s = policy.retry_after_s()
        assert (waits_s == 0) == available
        assert available == (blocked is None or policy.mode == "metrics_only")
        admission = policy.acquire()
        assert (admission is not None) == available
        if blocked is not None:
            self.expected_refused[which] += 1
            assert policy.snapshot().generation == before.generation
        if admission is None:
            return None
        after = policy.snapshot()
        if policy.mode == "disabled" or blocked is not None:
            assert admission.generation != after.generation  # it will not count
            return (which, admission, after.generation)
        assert admission.generation == after.generation
        assert bool(admission.round) == (after.state == "half_open")
        if admission.round:
            key = (admission.generation, admission.round)
            self.probes[which][key] += 1
            assert self.probes[which][key] <= self.config.half_open_calls
        return (which, admission, after.generation)

    @rule(
        held=consumes(under_way),
        verdict=st.sampled_from(VERDICTS),
        times=st.sampled_from([(None, 0.0), (0.2, 0.1), (25.0, 0.1), (0.2, 25.0)]),
        asked_s=st.sampled_from([None, None, 0.0, 15.0, 1e4]),
    )
    def end(
        self,
        held: Held | None,
        verdict: Verdict,
        times: tuple[float | None, float],
        asked_s: float | None,
    ) -> None:
        if held is None:
            return
        which, admission, _ = held
        policy = self.pair[which]
        before, rests = policy.snapshot(), policy.retry_after_s()
        policy.release(admission, verdict, *times, retry_after_s=asked_s)
        after = policy.snapshot()
        if admission.round:
            self.probes[which][admission.generation, admission.round] -= 1
        if admission.generation != before.generation:
            assert after == before  # the result of an earlier generation, or of no account
            assert policy.retry_after_s() == rests
            return
        if verdict not in ("ok", "fail"):
            self._is_neutral(before, after, admission)
        elif before.state == "half_open":
            slow = (times[0] or 0) >= 20 or times[1] >= 20
            bad = verdict == "fail" or slow
            assert after.state == "open" if bad else after.state in ("half_open", "closed")
        else:
            assert after.state in ("closed", "open")
            self._did_not_take_the_last(which, before, after)

    def _is_neutral(
        self, before: BreakerSnapshot, after: BreakerSnapshot, admission: Admission
    ) -> None:
        assert (after.state, after.generation) == (before.state, before.generation)
        assert (after.calls, after.failures, after.slow) == (
            before.calls,
            before.failures,
            before.slow,
        )
        assert before.probes - after.probes in ((0, 1) if admission.round else (0,))

    def _did_not_take_the_last(
        self, which: int, before: BreakerSnapshot, after: BreakerSnapshot
    ) -> None:
        opened = (before.state, after.state) == ("closed", "open")
        enforced = self.pair[which].mode == "auto"
        if opened and enforced and not self.all_may_open:
            assert not self.pair[1 - which].ejected

    @rule(held=consumes(under_way))
    def never_end(self, held: Held | None) -> None:
        """A call whose end is lost."""

    @rule(passed_s=st.sampled_from([0.01, 0.05, 1.0, 9.0, 30.0, 40.0, 100.0, 1000.0]))
    def wait(self, passed_s: float) -> None:
        self.clock.now += passed_s

    @rule(which=WHICH, mode=st.sampled_from(["auto", "auto", *MODES]))
    def set_mode(self, which: int, mode: Any) -> None:
        policy = self.pair[which]
        was = policy.snapshot()
        policy.set_mode(mode)
        now = policy.snapshot()
        assert now.mode == mode
        assert (now.generation == was.generation) == (was.mode == mode)

    @rule(which=WHICH)
    def hint(self, which: int) -> None:
        policy, other = self.pair[which], self.pair[1 - which]
        was = policy.snapshot()
        heeded = policy.hint()
        assert heeded == (
            was.state == "closed" and was.mode in ("auto", "metrics_only") and not other.ejected
        )
        assert policy.state == ("half_open" if heeded else was.state)

    @rule(which=WHICH)
    def reset(self, which: int) -> None:
        policy = self.pair[which]
        policy.reset()
        assert policy.available() == (policy.mode != "isolated")

    @rule(which=WHICH, command=st.sampled_from(["open", "half_open", "close"]))
    def command(self, which: int, command: str) -> None:
        policy = self.pair[which]
        getattr(policy.breaker, command)()
        assert policy.state == {"close": "closed"}.get(command, command)

    @invariant()
    def it_is_consistent(self) -> None:
        if not hasattr(self, "pair"):
            return
        for which, policy in enumerate(self.pair):
            snapshot = policy.snapshot()
            assert snapshot == policy.snapshot()  # looking changes nothing
            assert snapshot.state == policy.state
            assert snapshot.state in STATES
            assert snapshot.mode in MODES
            assert policy.breaker.current_state.replace("-", "_") == snapshot.state
            assert (snapshot.open_for_s is None) == (snapshot.state == "closed")
            assert 0 <= snapshot.failures <= snapshot.calls
            assert 0 <= snapshot.slow <= snapshot.calls
            assert 0 <= snapshot.probes <= self.config.half_open_calls
            assert snapshot.probes == 0 or snapshot.state == "half_open"
            assert not snapshot.held or snapshot.state == "closed"
            assert 0 <= snapshot.retry_after_s <= 300 + 1e-6
            assert self.refused[which] == self.expected_refused[which]
            if snapshot.mode == "isolated":
                assert not policy.available()
            if snapshot.mode in ("disabled", "metrics_only"):
                assert policy.available()
                assert not policy.ejected
            self._changes_follow(which)

    def _changes_follow(self, which: int) -> None:
        changes = self.changes[which]
        states = ["closed", *(new for _, new in changes)]
        assert [old for old, _ in changes] == states[:-1]
        assert states[-1] == self.pair[which].state

    def teardown(self) -> None:
        """Whatever happened, nobody is closed off for good: no permit was lost."""
        if not hasattr(self, "pair"):
            return
        for policy in self.pair:
            if policy.mode == "isolated":
                policy.set_mode("auto")
            self.clock.now += 300
            admission = policy.acquire()
            assert admission is not None
            if policy.mode == "disabled":
                continue
            policy.release(admission, "ignore")
            for _ in range(self.config.half_open_calls):
                if policy.state == "closed":
                    break
                admission = policy.acquire()
                assert admission is not None
                policy.release(admission, "ok")
            assert policy.state == "closed"


TestBreakers: Any = Breakers.TestCase
TestBreakers.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_the_model_notices_a_lost_permit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is worth something: a policy that keeps ignored probes' permits fails it."""
    monkeypatch.setattr(Probes, "give_back", lambda self, number: None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Breakers,
            settings=settings(
                max_examples=300, deadline=None, database=None, phases=[Phase.generate]
            ),
        )
