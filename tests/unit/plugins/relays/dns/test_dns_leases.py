from __future__ import annotations

import pytest

from isoneph.plugins.relays.dns.leases import Leases

TTL, GRACE = 30.0, 5.0


@pytest.fixture
def leases() -> Leases:
    return Leases(TTL, GRACE)


def test_the_unknown_may_be_found(leases: Leases) -> None:
    assert leases.may_be_found("a", 0.0)
    assert not leases.is_published("a")


def test_a_published_one_is_found_for_ever(leases: Leases) -> None:
    leases.are_published({"a"}, {"a"}, 0.0)
    assert leases.is_published("a")
    assert leases.may_be_found("a", 1e9)


def test_a_withdrawn_one_is_found_until_caches_forget_it(leases: Leases) -> None:
    leases.are_published({"a"}, {"a"}, 0.0)
    leases.are_published(set(), {"a"}, 100.0)
    assert not leases.is_published("a")
    assert leases.left("a", 110.0) == 25.0
    assert leases.may_be_found("a", 134.9)
    assert not leases.may_be_found("a", 135.0)


def test_looking_again_does_not_start_anew(leases: Leases) -> None:
    leases.are_published({"a"}, {"a"}, 0.0)
    for now in (100.0, 110.0, 120.0):
        leases.are_published(set(), {"a"}, now)
    assert not leases.may_be_found("a", 135.0)


def test_one_first_seen_unpublished_counts_as_just_withdrawn(leases: Leases) -> None:
    leases.are_published(set(), {"a"}, 100.0)
    assert leases.may_be_found("a", 134.0)
    assert not leases.may_be_found("a", 135.0)


def test_one_that_may_have_been_published_counts_from_when_it_is_not(leases: Leases) -> None:
    leases.are_published(set(), {"a"}, 0.0)
    assert not leases.may_be_found("a", 50.0)
    leases.may_be_published({"a"})
    assert not leases.is_published("a")
    assert leases.may_be_found("a", 50.0)
    leases.are_published(set(), {"a"}, 60.0)
    assert leases.left("a", 60.0) == 35.0


def test_one_that_is_published_again_counts_anew(leases: Leases) -> None:
    leases.are_published({"a"}, {"a"}, 0.0)
    leases.are_published(set(), {"a"}, 100.0)
    leases.are_published({"a"}, {"a"}, 101.0)
    assert leases.may_be_found("a", 1e9)
    leases.are_published(set(), {"a"}, 200.0)
    assert leases.left("a", 200.0) == 35.0


def test_an_older_longer_ttl_counts_until_its_last_answer_is_stale(leases: Leases) -> None:
    leases.seen(300.0, 0.0)
    leases.are_published({"a", "b"}, {"a", "b"}, 0.0)
    leases.are_published({"b"}, {"a", "b"}, 10.0)
    assert leases.left("a", 10.0) == 295.0
    leases.are_published(set(), {"a", "b"}, 290.0)
    assert leases.left("b", 290.0) == 35.0


def test_what_is_gone_is_forgotten(leases: Leases) -> None:
    leases.are_published({"a"}, {"a"}, 0.0)
    leases.are_published(set(), set(), 1.0)
    assert leases.left("a", 1.0) == 0.0
    assert not leases.is_published("a")
