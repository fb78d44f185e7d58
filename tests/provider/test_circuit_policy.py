from __future__ import annotations

import random
from typing import Any

import pybreaker
import pytest
from circuits import CONFIG, Clock, call, opened, probes, state_of
from hypothesis import given
from hypothesis import strategies as st

from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.policy import Admission, BreakerPolicy
from radgateway.provider.circuit.standing import BreakerSnapshot, Verdict


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("fff", False),  # fewer calls than mean anything
        ("ffff", True),
        ("oooff", False),
        ("ooofff", True),  # half of them
        ("ffooiiiiii", True),  # what is ignored dilutes nothing
        ("iiiiiiiiii", False),
    ],
)
def test_it_opens_at_the_failure_ratio(outcomes: str, opens: bool) -> None:
    """The circuit opens when, of enough calls, the given share failed."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    words: dict[str, Verdict] = {"o": "ok", "f": "fail", "i": "ignore"}
    for outcome in outcomes:
        admission = policy.acquire()
        if admission is None:
            break
        policy.release(admission, words[outcome])
    assert (policy.state == "open") is opens


def test_failures_are_forgotten_with_the_window() -> None:
    """Failures from before the window say nothing about now."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    for _ in range(3):
        call(policy, "fail")
    clock.now += CONFIG.window_s
    call(policy, "fail")
    assert state_of(policy) == "closed"


def test_slow_first_bytes_open_it_though_no_call_failed() -> None:
    """A provider that answers too late is as good as down; the length of a stream never counts."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    for _ in range(3):
        call(policy, "ok", 25.0)
    call(policy, "ok", 19.0)
    assert state_of(policy) == "closed"
    call(policy, "ok", 20.0)
    assert state_of(policy) == "open"
    patient = BreakerPolicy(BreakerConfig(min_calls=1, slow_first_byte_s=None), clock=Clock())
    call(patient, "ok", 1e6)
    assert patient.state == "closed"


def test_stalls_open_it_though_no_call_failed() -> None:
    """A stream that falls silent for long is slow, however soon it began."""
    policy = BreakerPolicy(BreakerConfig(min_calls=4, slow_gap_s=5), clock=Clock())
    for gap_s in (5.0, 9.0, 4.9, 6.0):
        call(policy, "ok", 0.1, gap_s)
    assert state_of(policy) == "closed"
    call(policy, "ok", 0.1, 5.0)
    assert state_of(policy) == "open"
    patient = BreakerPolicy(BreakerConfig(min_calls=1, slow_gap_s=None), clock=Clock())
    call(patient, "ok", 0.1, 1e6)
    assert patient.state == "closed"


def test_failures_in_a_row_open_it_whatever_the_ratio() -> None:
    """A sudden death is found before its share of the window is large; a success starts over."""
    config = BreakerConfig(min_calls=100, consecutive_failures=3)
    policy = BreakerPolicy(config, clock=Clock())
    for verdict in ("ok", "fail", "fail", "ok", "fail", "fail", "ignore"):
        call(policy, verdict)
    assert state_of(policy) == "closed"
    assert policy.snapshot().consecutive_failures == 2
    call(policy, "fail")
    assert state_of(policy) == "open"


def test_a_window_of_calls_forgets_by_number_and_not_by_time() -> None:
    """Failures hours apart count where the window is one of calls; the oldest call goes first."""
    clock = Clock()
    config = BreakerConfig(window_calls=4, min_calls=4)
    policy = BreakerPolicy(config, clock=clock)
    for verdict in ("fail", "ok", "ok", "ok", "fail", "ok"):
        call(policy, verdict)
        clock.now += 3600
    assert state_of(policy) == "closed"
    call(policy, "fail")
    assert state_of(policy) == "open"


def test_an_open_circuit_refuses_until_it_may_probe() -> None:
    """While open nothing passes, asking costs nothing, and it says when to come back."""
    clock = Clock()
    policy = opened(clock)
    assert policy.acquire() is None
    assert not policy.available()
    assert policy.retry_after_s() == 30
    clock.now += 29
    assert policy.retry_after_s() == 1
    clock.now += 1
    assert policy.available()
    assert policy.retry_after_s() == 0
    assert state_of(policy) == "open"  # asking did not change it


def test_exactly_the_permitted_probes_pass_a_herd() -> None:
    """Of a hundred callers that find the circuit half open, the probes pass and no more."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    admitted = probes(policy)
    assert len(admitted) == 2
    assert state_of(policy) == "half_open"
    assert not policy.available()
    assert 0 < policy.retry_after_s() <= 1
    policy.release(admitted[0], "ok")
    assert policy.acquire() is None
    policy.release(admitted[1], "ok")
    assert state_of(policy) == "closed"
    assert policy.acquire() is not None


@pytest.mark.parametrize(("verdict", "times"), [("fail", ()), ("ok", (30.0,)), ("ok", (1.0, 30.0))])
def test_a_bad_probe_opens_it_again(verdict: Verdict, times: tuple[float, ...]) -> None:
    """One probe that fails or is slow starts the wait over, and makes it longer."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    call(policy, verdict, *times)
    assert state_of(policy) == "open"
    assert policy.retry_after_s() == 60


def test_a_cancelled_probe_proves_nothing_and_returns_its_permit() -> None:
    """A caller that leaves during the probe neither closes nor opens the circuit."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    first, second = probes(policy)
    policy.release(first, "ignore")
    assert state_of(policy) == "half_open"
    assert len(probes(policy)) == 1
    policy.release(second, "ok")
    assert state_of(policy) == "half_open"


def test_probes_that_never_settle_do_not_close_the_provider_off() -> None:
    """After the longest half-open time new probes pass, as many as are still needed."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    hung = probes(policy)
    clock.now += 59.9
    assert policy.acquire() is None
    clock.now += 0.1
    assert policy.available()
    fresh = probes(policy)
    assert len(fresh) == 2
    policy.release(hung[0], "ok")  # a long stream that ended well counts
    policy.release(fresh[0], "ok")
    assert state_of(policy) == "closed"


def test_a_probe_that_settles_late_makes_no_room_among_the_new_ones() -> None:
    """It held a permit of its own round; this round's are still taken."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    hung = probes(policy)
    clock.now += 60
    assert len(probes(policy)) == 2
    for late in hung:
        policy.release(late, "ignore")
    assert policy.acquire() is None
    assert policy.snapshot().probes == 2


def test_results_of_an_earlier_state_are_dropped() -> None:
    """A call begun before the trip and failing after the recovery must not open it again."""
    clock = Clock()
    policy = BreakerPolicy(BreakerConfig(min_calls=1, half_open_calls=1), clock=clock)
    old = [policy.acquire() for _ in range(3)]
    call(policy, "fail")
    clock.now += 30
    probe = policy.acquire()
    assert probe is not None
    assert old[0] is not None
    policy.release(old[0], "ok")
    assert state_of(policy) == "half_open"
    policy.release(probe, "ok")
    for late in old[1:]:
        assert late is not None
        policy.release(late, "fail")
    assert state_of(policy) == "closed"


def test_it_opens_longer_each_time_until_it_has_stayed_closed() -> None:
    """Open times double up to the cap; as long closed as it was last open begins anew."""
    clock = Clock()
    config = BreakerConfig(min_calls=1, half_open_calls=1, open_s=30, open_max_s=200, open_jitter=0)
    policy = BreakerPolicy(config, clock=clock)
    call(policy, "fail")
    times = []
    for _ in range(5):
        times.append(policy.retry_after_s())
        clock.now += times[-1]
        call(policy, "fail")
    assert times == [30, 60, 120, 200, 200]
    assert policy.snapshot().openings == 6
    for closed_s, expected in ((199, 200), (200, 30)):
        clock.now += policy.retry_after_s()
        call(policy, "ok")
        assert state_of(policy) == "closed"
        clock.now += closed_s
        call(policy, "fail")
        assert policy.retry_after_s() == expected


def test_replicas_that_opened_together_do_not_probe_together() -> None:
    """A share of the open time is left out at random, and never more than that share."""
    config = BreakerConfig(min_calls=1, open_s=100, open_jitter=0.2)
    times = set()
    for seed in range(50):
        policy = BreakerPolicy(config, clock=Clock(), rng=random.Random(seed))
        call(policy, "fail")
        times.add(policy.retry_after_s())
    assert len(times) == 50
    assert min(times) >= 80 - 1e-9
    assert max(times) <= 100


@pytest.mark.parametrize(("asked_s", "open_s"), [(10, 30), (90, 90), (4000, 300)])
def test_it_stays_open_for_as_long_as_the_provider_asked(asked_s: float, open_s: float) -> None:
    """Retry-After of a failure lengthens the open time up to the cap, and never shortens it."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    call(policy, "fail", retry_after_s=asked_s)
    for _ in range(3):
        call(policy, "fail")
    assert policy.retry_after_s() == open_s
    assert policy.acquire() is None


def test_what_was_asked_before_a_recovery_does_not_lengthen_the_next_opening() -> None:
    """The provider has come back since, sooner than it had said."""
    clock = Clock()
    policy = BreakerPolicy(BreakerConfig(min_calls=1, half_open_calls=1), clock=clock)
    call(policy, "fail", retry_after_s=4000.0)
    clock.now += 300
    call(policy, "ok")
    clock.now += 300
    call(policy, "fail")
    assert policy.retry_after_s() <= 30


def test_one_failure_that_asks_to_wait_does_not_open_it() -> None:
    """One overloaded machine of many behind an address says 503; its Retry-After alone is no
    reason to leave them all."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    call(policy, "fail", retry_after_s=60.0)
    assert policy.available()


@pytest.mark.parametrize(("asked_s", "rests_s"), [(20, 20), (4000, 300)])
def test_a_full_quota_rests_the_provider_and_is_no_failure(asked_s: float, rests_s: float) -> None:
    """A 429 that says when to come back keeps callers away until then; the circuit stays closed."""
    clock = Clock()
    notes: list[str] = []
    policy = BreakerPolicy(CONFIG, clock=clock, on_note=notes.append)
    *under_way, last = probes(policy, 4)
    for admission in under_way:
        policy.release(admission, "limited", retry_after_s=asked_s)
    assert state_of(policy) == "closed"
    assert not policy.available()
    assert policy.acquire() is None
    assert policy.blocked_by() == "resting"
    assert policy.retry_after_s() == rests_s
    assert policy.snapshot().resting
    policy.release(last, "limited", retry_after_s=1.0)  # a shorter word changes nothing
    assert policy.retry_after_s() == rests_s
    assert notes == ["resting"]
    clock.now += rests_s
    assert policy.available()
    assert policy.retry_after_s() == 0
    call(policy, "ok")
    assert policy.snapshot().failures == 0


def test_a_quota_does_not_keep_it_away_where_nothing_says_for_how_long() -> None:
    """Without Retry-After a 429 is neutral; nor does it rest where resting is turned off."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    for _ in range(50):
        call(policy, "limited")
    assert policy.available()
    restless = BreakerPolicy(BreakerConfig(rest_max_s=None), clock=Clock())
    call(restless, "limited", retry_after_s=60.0)
    assert restless.available()


def test_a_key_that_is_refused_again_and_again_rests_the_provider() -> None:
    """So that a revoked key does not cost every request a failover; a success starts over."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    for verdict in ("unauthorized",) * 4 + ("ok",) + ("unauthorized",) * 4:
        call(policy, verdict)
    assert policy.available()
    call(policy, "unauthorized")
    assert (state_of(policy), policy.blocked_by()) == ("closed", "resting")
    assert policy.retry_after_s() == 30
    clock.now += 30
    call(policy, "unauthorized")  # one call finds out whether the key is accepted now
    assert policy.blocked_by() == "resting"


def test_a_refused_key_rests_for_as_long_as_asked_and_not_at_all_where_that_is_off() -> None:
    """The provider's own word goes before `open_s`, and None never rests for a 401."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    for _ in range(4):
        call(policy, "unauthorized")
    call(policy, "unauthorized", retry_after_s=7.0)
    assert policy.retry_after_s() == 7
    patient = BreakerPolicy(BreakerConfig(credential_refusals=None), clock=Clock())
    for _ in range(50):
        call(patient, "unauthorized")
    assert patient.available()


def test_a_probe_that_meets_a_full_quota_is_returned() -> None:
    """Half open, a 429 neither closes nor opens the circuit, and the next probe waits for it."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    call(policy, "limited", retry_after_s=12.0)
    assert (state_of(policy), policy.blocked_by()) == ("half_open", "resting")
    assert policy.retry_after_s() == 12
    clock.now += 12
    assert len(probes(policy)) == 2


def test_after_closing_a_growing_share_is_admitted() -> None:
    """Over the ramp the share grows from a tenth to all; asking changes nothing; then all pass."""
    clock = Clock()
    config = BreakerConfig(min_calls=4, half_open_calls=1, ramp_s=10, failure_ratio=1)
    refused: list[str] = []
    policy = opened(clock, config, rng=random.Random(1), on_refused=refused.append)
    clock.now += 30
    call(policy, "ok")
    assert state_of(policy) == "closed"
    began, shares = clock.now, []
    for second in range(10):
        admitted = 0
        for step in range(1000):
            clock.now = began + second + step / 1000
            expected = policy.available()
            waits_s = policy.retry_after_s()
            assert (waits_s == 0) == expected
            assert waits_s <= 0.1
            admission = policy.acquire()
            assert (admission is not None) == expected
            if admission is not None:
                policy.release(admission, "ok")
                admitted += 1
        shares.append(admitted / 1000)
    assert shares == pytest.approx([0.1, *(s / 10 + 0.05 for s in range(1, 10))], abs=0.03)
    assert set(refused) == {"ramp"}
    clock.now = began + 10
    assert len(probes(policy)) == 100


def test_a_failing_ramp_opens_it_again() -> None:
    """What is admitted on the way back counts as ever."""
    clock = Clock()
    policy = opened(clock, BreakerConfig(min_calls=2, half_open_calls=1, ramp_s=10))
    clock.now += 30
    call(policy, "ok")
    for _ in range(2):
        clock.now += policy.retry_after_s() + 1e-6
        call(policy, "fail")
    assert (state_of(policy), policy.blocked_by()) == ("open", "open")


def test_changes_are_told_once_each_and_pybreaker_agrees() -> None:
    """The hook and pybreaker's listeners hear each change; both hold the same state."""
    clock = Clock()
    changes: list[tuple[str, str]] = []
    heard: list[str] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            heard.append(new_state.name)

        def failure(self, cb: Any, exc: BaseException) -> None:
            heard.append("failure")

        def success(self, cb: Any) -> None:
            heard.append("success")

    config = BreakerConfig(min_calls=1, half_open_calls=1)
    policy = BreakerPolicy(config, clock=clock, on_change=lambda *change: changes.append(change))
    policy.breaker.add_listener(Listener())
    call(policy, "fail")
    assert policy.breaker.current_state == "open"
    clock.now += 30
    call(policy, "ok")
    assert policy.breaker.current_state == "closed"
    assert changes == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    assert heard == ["failure", "open", "half-open", "success", "closed"]


def test_it_can_be_opened_and_closed_by_hand() -> None:
    """Commands to the pybreaker circuit are obeyed, and a stored state is taken over."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    policy.breaker.open()
    assert policy.acquire() is None
    policy.breaker.close()
    assert policy.acquire() is not None
    storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_OPEN)
    assert BreakerPolicy(CONFIG, clock=clock, storage=storage).acquire() is None


def test_isolated_it_admits_nobody_until_told_otherwise() -> None:
    """No time ends an isolation, nor does pybreaker's own switch; afterwards it is probed."""
    clock = Clock()
    notes: list[str] = []
    policy = BreakerPolicy(CONFIG, clock=clock, on_note=notes.append)
    policy.set_mode("isolated")
    clock.now += 1e9
    assert not policy.available()
    assert policy.acquire() is None
    assert (policy.state, policy.blocked_by()) == ("open", "isolated")
    assert policy.retry_after_s() == 30
    policy.reset()
    policy.breaker.close()
    assert policy.acquire() is None
    policy.set_mode("isolated")
    policy.set_mode("auto")
    assert state_of(policy) == "half_open"
    assert len(probes(policy)) == 2
    assert notes == ["mode", "mode"]


def test_disabled_it_admits_everybody_and_counts_nothing() -> None:
    """Also where it was open; and nothing of that time counts when it judges again."""
    policy = opened(Clock())
    policy.set_mode("disabled")
    held = policy.acquire()
    for verdict in ("fail", "limited", "unauthorized") * 20:
        call(policy, verdict, retry_after_s=60.0)
    assert (policy.state, policy.snapshot().calls) == ("closed", 0)
    policy.set_mode("auto")
    assert held is not None
    for _ in range(3):
        policy.release(held, "fail")
    call(policy, "fail")
    assert (policy.state, policy.snapshot().calls) == ("closed", 1)


def test_metrics_only_it_goes_through_the_states_and_keeps_nobody_away() -> None:
    """It says what it would do, with the calls it would have admitted, and admits all."""
    clock = Clock()
    refused: list[str] = []
    policy = BreakerPolicy(CONFIG, clock=clock, on_refused=refused.append)
    policy.set_mode("metrics_only")
    for _ in range(4):
        call(policy, "fail")
    assert state_of(policy) == "open"
    assert (policy.available(), policy.retry_after_s(), policy.ejected) == (True, 0, False)
    for _ in range(5):
        call(policy, "ok")  # not a probe, so it proves nothing
    assert refused == ["open"] * 5
    clock.now += 30
    herd = probes(policy)
    assert len(herd) == 100
    assert policy.snapshot().probes == 2
    for admission in herd:
        policy.release(admission, "ok")
    assert state_of(policy) == "closed"
    policy.set_mode("auto")
    assert policy.available()


def test_reset_forgets_what_was_learned() -> None:
    """State, open times, rests and the last failure; a mode that was set stays."""
    clock = Clock()
    policy = opened(clock, BreakerConfig(min_calls=4, half_open_calls=1, ramp_s=9, open_jitter=0))
    clock.now += 30
    call(policy, "fail", reason="http_503")
    assert policy.snapshot().last_failure == "http_503"
    policy.reset()
    snapshot = policy.snapshot()
    assert (snapshot.state, snapshot.openings, snapshot.last_failure) == ("closed", 0, None)
    assert len(probes(policy)) == 100
    call(policy, "limited", retry_after_s=60.0)
    policy.reset()
    assert policy.available()
    policy.set_mode("disabled")
    policy.reset()
    assert policy.mode == "disabled"


def test_a_mode_has_to_exist() -> None:
    """A word that is none is refused by all that are."""
    with pytest.raises(ValueError, match="isolated"):
        BreakerPolicy().set_mode("ajar")  # type: ignore[arg-type]


def test_a_hint_makes_a_closed_circuit_probe() -> None:
    """Hearsay opens nothing: two good probes, and all is as before; one bad, and it opens."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    assert policy.hint()
    assert state_of(policy) == "half_open"
    assert not policy.hint()
    for admission in probes(policy):
        policy.release(admission, "ok")
    assert state_of(policy) == "closed"
    assert policy.hint()
    call(policy, "fail")
    assert state_of(policy) == "open"
    assert policy.retry_after_s() == 30
    assert not policy.hint()
    for mode in ("isolated", "disabled"):
        policy.set_mode(mode)
        assert not policy.hint()


def test_who_is_turned_away_is_told_with_the_reason() -> None:
    """Each call refused, and each that a router took elsewhere, once."""
    clock = Clock()
    refused: list[str] = []
    policy = opened(clock, on_refused=refused.append)
    assert policy.acquire() is None
    policy.passed_over()
    clock.now += 30
    probes(policy, 3)
    policy.set_mode("isolated")
    policy.passed_over()
    assert refused == ["open", "open", "probing", "isolated"]
    policy.reset()
    policy.set_mode("disabled")
    policy.passed_over()
    assert len(refused) == 4


def test_a_snapshot_says_how_it_stands() -> None:
    """For the management API, in one consistent look."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock, name="local")
    call(policy, "ok", 30.0)
    call(policy, "fail", reason="connect_timeout")
    assert policy.snapshot() == BreakerSnapshot(
        name="local",
        state="closed",
        mode="auto",
        calls=2,
        failures=1,
        slow=1,
        consecutive_failures=1,
        open_for_s=None,
        retry_after_s=0.0,
        resting=False,
        held=False,
        probes=0,
        openings=0,
        generation=0,
        last_failure="connect_timeout",
    )
    for _ in range(2):
        call(policy, "fail")
    clock.now += 31
    policy.acquire()
    snapshot = policy.snapshot()
    assert (snapshot.state, snapshot.probes, snapshot.open_for_s) == ("half_open", 1, 31)
    assert (snapshot.openings, snapshot.generation, snapshot.calls) == (1, 2, 0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["ok", "fail", "ignore", "late"]), st.floats(0, 40)),
        max_size=200,
    )
)
def test_it_always_lets_somebody_through_again(steps: list[tuple[str, float]]) -> None:
    """Whatever happens, probes in flight never exceed what is allowed, and it never gets stuck."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    held: list[Admission] = []
    for step, passed_s in steps:
        clock.now += passed_s
        expected = policy.available()
        admission = policy.acquire()
        assert (admission is not None) == expected
        if admission is None:
            assert state_of(policy) != "closed"
        elif step == "late":
            held.append(admission)
        else:
            policy.release(admission, step)  # type: ignore[arg-type]
        if len(held) > 3:
            policy.release(held.pop(0), "fail")
    clock.now += max(CONFIG.open_max_s, CONFIG.half_open_max_s)
    assert policy.acquire() is not None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("window_s", 0),
        ("window_calls", 0),
        ("window_calls", 9),  # fewer than min_calls
        ("window_calls", 100_001),
        ("consecutive_failures", 0),
        ("min_calls", 0),
        ("failure_ratio", 0),
        ("slow_ratio", 1.5),
        ("open_s", 0),
        ("slow_first_byte_s", -1),
        ("half_open_calls", 0),
        ("half_open_max_s", 0),
        ("slow_gap_s", 0),
        ("open_max_s", 0),
        ("open_jitter", 1.1),
        ("ramp_s", 0),
        ("rest_max_s", 0),
        ("credential_refusals", 0),
    ],
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=setting):
        BreakerConfig(**{setting: value})  # type: ignore[arg-type]
