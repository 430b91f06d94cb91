"""The circuit breaker's states and the memory of refusals."""

from __future__ import annotations

from isoneph.core.errors import (
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from isoneph.core.health import Avoidance, Breaker
from isoneph.core.testing import FakeClock

DOWN = Unreachable("down")


def state(breaker: Breaker) -> str:
    return breaker.state.value


def opened(clock: FakeClock) -> Breaker:
    breaker = Breaker(clock, failures=3, pause=10)
    for _ in range(3):
        breaker.failure(DOWN)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker(FakeClock(), failures=3, pause=10)
    for _ in range(2):
        breaker.failure(DOWN)
    breaker.success()
    for _ in range(2):
        breaker.failure(DOWN)
    assert state(breaker) == "closed"
    breaker.failure(DOWN)
    assert state(breaker) == "open"
    assert not breaker.allow()
    assert breaker.retry_in == 10


def test_after_the_pause_one_probe_goes_through() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(10)
    assert state(breaker) == "half_open"
    assert breaker.available
    assert breaker.allow()
    assert not breaker.allow()
    breaker.success()
    assert state(breaker) == "closed"
    assert breaker.allow()


def test_a_failed_probe_doubles_the_pause_up_to_a_bound() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    pauses = []
    for _ in range(6):
        clock.advance(breaker.retry_in)
        assert breaker.allow()
        breaker.failure(DOWN)
        pauses.append(breaker.retry_in)
    assert pauses == [20, 40, 80, 100, 100, 100]


def test_a_probe_that_never_reports_back_does_not_hold_the_cloud_off_for_ever() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(10)
    assert breaker.allow()
    clock.advance(121)
    assert breaker.allow()


def test_late_failures_of_calls_begun_before_do_not_prolong_the_pause() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(5)
    breaker.failure(DOWN)
    assert breaker.retry_in == 5


def test_refusals_are_remembered_by_type_or_for_the_whole_cloud() -> None:
    clock = FakeClock()
    avoidance = Avoidance(clock, seconds=30)
    avoidance.note(QuotaExceeded("10 of 10"), "big")
    assert avoidance.reason("big") == "left alone for 30 s more: quota_exceeded: 10 of 10"
    assert avoidance.reason("small") is None
    avoidance.note(Throttled("slow down", retry_after=5), "big")
    assert "throttled" in (avoidance.reason("small") or "")
    clock.advance(6)
    assert avoidance.reason("small") is None
    clock.advance(30)
    assert avoidance.reason("big") is None


def test_what_blocks_nothing_is_not_remembered_and_room_made_is_forgotten() -> None:
    avoidance = Avoidance(FakeClock(), seconds=30)
    avoidance.note(InvalidRequest("no such image"), "big")
    assert avoidance.reason("big") is None
    avoidance.note(NoCapacity("full"), "big")
    avoidance.forget("big")
    assert avoidance.reason("big") is None
    avoidance.note(NoCapacity("full"), "big")
    avoidance.forget()
    assert avoidance.reason("big") is None


def test_creates_without_an_answer_open_it_for_creates_whatever_else_is_answered() -> None:
    clock, unanswered = FakeClock(), OutcomeUnknown("no answer")
    breaker = Breaker(clock, failures=3, pause=30)
    for _ in range(3):
        breaker.failure(unanswered, create=True)
        breaker.success()  # a listing
    assert state(breaker) == "open"
    assert not breaker.allow(create=True)
    assert breaker.allow()
    clock.advance(30)
    breaker.success()
    assert breaker.allow(create=True)
    assert not breaker.allow(create=True)
    breaker.success(create=True)
    assert state(breaker) == "closed"


def test_other_calls_without_an_answer_are_made_good_by_any_answer() -> None:
    breaker = Breaker(FakeClock(), failures=3, pause=30)
    for _ in range(5):
        breaker.failure(OutcomeUnknown("no answer"))
        breaker.success()
    assert state(breaker) == "closed"


def test_it_says_when_it_opens_and_when_it_closes() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=2, pause=10)
    assert [breaker.failure(DOWN) for _ in range(3)] == [False, True, False]
    clock.advance(10)
    assert breaker.allow()
    assert not breaker.failure(DOWN)
    clock.advance(20)
    assert breaker.allow()
    assert [breaker.success(), breaker.success()] == [True, False]
