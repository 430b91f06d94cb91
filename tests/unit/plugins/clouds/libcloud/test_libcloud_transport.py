from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
import requests_mock
from libcloud.compute.drivers.ec2 import EC2NodeDriver

from isoneph.core.errors import Throttled, Unreachable
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.libcloud.lookups import Catalogue, Entry
from isoneph.plugins.clouds.libcloud.transport import Lines, Pace

ARGUMENTS = {"key": "k", "secret": "s", "region": "us-east-1", "signature_version": "4"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def lines(clock: FakeClock, **options: Any) -> Lines:
    return Lines(EC2NodeDriver, ARGUMENTS, clock=clock, pace=Pace(clock, 1000.0, 1000), **options)


def test_a_burst_goes_at_once_and_the_rest_at_its_pace(clock: FakeClock) -> None:
    pace = Pace(clock, rate=2.0, burst=3)
    for _ in range(3):
        pace.wait(clock.monotonic() + 10)
    assert clock.paused == 0
    for _ in range(4):
        pace.wait(clock.monotonic() + 10)
    assert clock.paused == pytest.approx(2.0)
    clock.advance(100)  # rest saves up one burst, no more
    before = clock.paused
    for _ in range(5):
        pace.wait(clock.monotonic() + 10)
    assert clock.paused - before == pytest.approx(1.0)


def test_who_would_wait_too_long_is_told_at_once(clock: FakeClock) -> None:
    pace = Pace(clock, rate=0.1, burst=1)
    pace.wait(clock.monotonic())
    with pytest.raises(Throttled, match="calls_per_second") as caught:
        pace.wait(clock.monotonic() + 9)
    assert caught.value.retry_after == pytest.approx(10.0)
    assert clock.paused == 0
    pace.wait(clock.monotonic() + 10)  # who was told so took no turn


def test_each_request_has_the_time_that_its_call_has_left(clock: FakeClock) -> None:
    pool = lines(clock)
    seen = []

    def note(request: Any, context: Any) -> str:
        seen.append(request.timeout)
        clock.advance(4.0)
        return "<x/>"

    with requests_mock.Mocker() as mocker, pool.borrow(clock.monotonic() + 10) as line:
        mocker.get(requests_mock.ANY, text=note)
        for _ in range(2):
            line.driver.connection.request("/")
        clock.advance(2.0)
        with pytest.raises(Unreachable, match="no time left"):
            line.driver.connection.request("/")
        assert (line.sent, line.accepted) == (2, 0)
    assert seen == [pytest.approx((5.0, 10.0)), pytest.approx((3.0, 6.0))]


def test_lines_are_used_again_and_let_go(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[requests.Session] = []
    monkeypatch.setattr(requests.Session, "close", lambda session: closed.extend([session]))
    pool = lines(clock)
    with pool.borrow(1.0) as first, pool.borrow(1.0) as second:
        assert first.driver is not second.driver
        first.sent = 3
    with pool.borrow(2.0) as again:
        assert again in (first, second)
        assert (again.sent, again.deadline) == (0, 2.0)
    pool.close()
    assert len(closed) == 2
    pool.close()
    assert len(closed) == 2


def test_nothing_is_taken_from_the_environment(clock: FakeClock, tmp_path: Path) -> None:
    ca = str(tmp_path / "ca.pem")
    with lines(clock, ca_file=ca).borrow(1.0) as line:
        transport = line.driver.connection.connection
        assert transport.session.trust_env is False
        assert transport.verification == ca
    with lines(clock).borrow(1.0) as line:
        assert line.driver.connection.connection.verification is True


# What options name is found by id or name.


def test_a_catalogue_is_read_when_something_is_not_known(clock: FakeClock) -> None:
    catalogue, reads = Catalogue("subnet", "networks", clock), []

    def read() -> list[Entry]:
        reads.append(1)
        return [Entry("a", "one"), Entry("b", "two"), Entry("one", "three"), Entry("d", "")]

    assert catalogue.find("two", read).id == "b"
    assert catalogue.find("one", read).id == "one"  # an id goes before a name
    assert len(reads) == 1
    catalogue.forget()
    assert catalogue.find("d", read).id == "d"
    assert len(reads) == 2


def test_names_of_ids_are_looked_for_once_in_a_while(clock: FakeClock) -> None:
    catalogue, reads = Catalogue("subnet", "networks", clock), []

    def read() -> list[Entry]:
        reads.append(1)
        return [Entry("a", "front"), Entry("b", "same"), Entry("c", "same"), Entry("d", "")]

    names = [catalogue.name_of(each, read) for each in ("a", "b", "c", "d", "e", "e")]
    assert names == ["front", "b", "c", "d", "e", "e"]
    assert len(reads) == 1
    clock.advance(61)
    catalogue.name_of("e", read)
    assert len(reads) == 2
