from __future__ import annotations

from random import Random

import pytest

from isoneph.core.link import Backoff, LinkAddress
from isoneph.core.link.stream import Pulse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:7000", LinkAddress("10.0.0.1", 7000)),
        ("relay.example:1", LinkAddress("relay.example", 1)),
        ("[::1]:7000", LinkAddress("::1", 7000)),
        ("/run/isoneph/link", LinkAddress(path="/run/isoneph/link")),
    ],
)
def test_an_address_is_read_and_printed(text: str, address: LinkAddress) -> None:
    assert LinkAddress.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "host", ":7000", "host:", "host:x", "host:65536", "::1:7000", "run/x", "[]:1", "h:²"],
)
def test_what_is_no_address_tells_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT or the absolute path"):
        LinkAddress.parse(text)


class Highest(Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_pauses_double_up_to_the_longest_and_start_over() -> None:
    backoff = Backoff(0.1, 1.0, Highest())
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


def test_up_to_half_of_a_pause_is_taken_away_at_random() -> None:
    backoff = Backoff(0.1, 1.0, Lowest())
    assert [backoff.next() for _ in range(2)] == pytest.approx([0.05, 0.1])
    some = {Backoff(1.0, 1.0).next() for _ in range(20)}
    assert len(some) > 1
    assert all(0.5 <= pause <= 1.0 for pause in some)


def test_a_year_of_failures_does_no_harm() -> None:
    backoff = Backoff(0.1, 5.0, Highest())
    assert [backoff.next() for _ in range(5000)][-1] == 5.0


def test_time_counts_as_it_passes() -> None:
    pulse = Pulse(0.1, 50.0)
    assert [pulse.elapsed(now) for now in (50.1, 50.22)] == pytest.approx([0.1, 0.12])


def test_time_in_which_we_ourselves_were_held_up_does_not_count() -> None:
    pulse = Pulse(0.1, 50.0)
    assert pulse.elapsed(60.0) == pytest.approx(0.2)
    assert pulse.elapsed(60.1) == pytest.approx(0.1)
