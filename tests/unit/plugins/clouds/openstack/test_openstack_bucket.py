import threading

import pytest

from isoneph.core.errors import Throttled
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.bucket import LONGEST_HOLD, Bucket
from isoneph.plugins.clouds.openstack.deadline import Deadline


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def later(clock: FakeClock, seconds: float = 1000.0) -> Deadline:
    return Deadline.after(clock, seconds)


def moments(bucket: Bucket, clock: FakeClock, count: int) -> list[float]:
    """When each of the next calls may be made, seen from now."""
    begun = clock.monotonic()
    found = []
    for _ in range(count):
        bucket.take(later(clock))
        found.append(round(clock.monotonic() - begun, 6))
    return found


def test_a_burst_goes_at_once_and_the_rest_at_the_rate(clock: FakeClock) -> None:
    bucket = Bucket(clock, rate=2.0, burst=3)
    assert moments(bucket, clock, 6) == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]


def test_a_long_rest_saves_up_no_more_than_a_burst(clock: FakeClock) -> None:
    bucket = Bucket(clock, rate=10.0, burst=2)
    bucket.take(later(clock))
    clock.advance(3600)
    assert moments(bucket, clock, 4) == [0.0, 0.0, 0.1, 0.2]


def test_a_short_rest_saves_up_its_share(clock: FakeClock) -> None:
    bucket = Bucket(clock, rate=1.0, burst=3)
    moments(bucket, clock, 3)
    clock.advance(1.0)
    assert moments(bucket, clock, 2) == [0.0, 1.0]


def test_who_would_come_too_late_is_told_at_once_and_takes_nothing(clock: FakeClock) -> None:
    bucket = Bucket(clock, rate=0.1, burst=1)
    bucket.take(later(clock))
    for _ in range(3):
        with pytest.raises(Throttled, match="calls_per_second") as caught:
            bucket.take(later(clock, 5.0))
        assert caught.value.retry_after == pytest.approx(10.0)
    assert clock.paused == 0.0
    assert moments(bucket, clock, 1) == [10.0]


def test_a_deadline_that_has_passed_does_not_matter_while_there_is_something_left(
    clock: FakeClock,
) -> None:
    Bucket(clock, rate=1.0, burst=1).take(later(clock, -1.0))


def test_a_hold_stops_everybody_and_no_burst_follows_it(clock: FakeClock) -> None:
    bucket = Bucket(clock, rate=2.0, burst=5)
    bucket.hold(30.0)
    assert moments(bucket, clock, 3) == [30.0, 30.5, 31.0]


def test_a_shorter_hold_does_not_end_a_longer_one(clock: FakeClock) -> None:
    bucket = Bucket(clock, rate=2.0, burst=5)
    bucket.hold(30.0)
    bucket.hold(1.0)
    bucket.hold(-5.0)
    assert moments(bucket, clock, 1) == [30.0]


def test_a_hold_is_bounded(clock: FakeClock) -> None:
    bucket = Bucket(clock, rate=2.0, burst=5)
    bucket.hold(10 * LONGEST_HOLD)
    with pytest.raises(Throttled) as caught:
        bucket.take(later(clock))
    assert caught.value.retry_after == pytest.approx(LONGEST_HOLD)


class HoldingClock(FakeClock):
    """While somebody pauses for the first time, the cloud closes the bucket."""

    bucket: Bucket | None = None

    def pause(self, seconds: float) -> None:
        bucket, self.bucket = self.bucket, None
        if bucket is not None:
            bucket.hold(20.0)
        super().pause(seconds)


def test_a_hold_reaches_those_who_wait_already() -> None:
    clock = HoldingClock()
    bucket = Bucket(clock, rate=1.0, burst=1)
    bucket.take(later(clock))
    clock.bucket = bucket
    assert moments(bucket, clock, 2) == [20.0, 21.0]


def test_a_hold_may_come_too_long_for_those_who_wait() -> None:
    clock = HoldingClock()
    bucket = Bucket(clock, rate=1.0, burst=1)
    bucket.take(later(clock))
    clock.bucket = bucket
    with pytest.raises(Throttled) as caught:
        bucket.take(later(clock, 5.0))
    assert caught.value.retry_after == pytest.approx(19.0)


class PatientClock(FakeClock):
    """Nobody's pause moves it: it notes how long each wants to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 6))


def test_callers_at_the_same_moment_get_moments_one_after_the_other() -> None:
    clock = PatientClock()
    bucket = Bucket(clock, rate=4.0, burst=2)
    threads = [threading.Thread(target=bucket.take, args=[later(clock)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(clock.pauses) == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
