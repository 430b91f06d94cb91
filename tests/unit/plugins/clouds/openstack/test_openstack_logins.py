"""Logins and tokens, at a stub of OpenStack."""

import threading
import time
from typing import Any

import pytest

from isoneph.core.errors import InvalidRequest, Unauthorized, Unreachable
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack import link
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.link import LOGIN_AGAIN
from stub_calls import CREATE, LIST, MADE, SERVERS, create, listing, make_api
from stub_openstack import Reply, StubCloud


def hang_logins(cloud: StubCloud) -> threading.Event:
    """Logins are not answered from now on; those that wait are dropped when the event is set."""
    ended = threading.Event()

    def hang(_: Any) -> Reply:
        ended.wait(5)
        return Reply(drop=True)

    cloud.login = hang
    return ended


def test_a_wrong_password_is_told_without_it(cloud: StubCloud, clock: FakeClock) -> None:
    options = cloud.options()
    options["auth"]["password"] = "hunter2hunter2"
    api = make_api(options, clock)
    with pytest.raises(Unauthorized) as caught:
        create(api)
    assert str(caught.value) == (
        f"clouds.yaml: clouds.uniform.auth: Keystone at {cloud.url}/v3 does not accept user 'bot' "
        "and its password, for project 'p' (401): Wrong."
    )
    api.close()


def test_a_revoked_token_is_renewed_even_for_a_create(cloud: StubCloud, api: Api) -> None:
    listing(api)
    cloud.tokens.clear()
    assert create(api) == {"server": {"id": "s1"}}
    assert cloud.logins == 2
    assert len(cloud.asked(CREATE)) == 2  # the first was refused with 401


def test_many_calls_with_a_revoked_token_log_in_once(cloud: StubCloud, api: Api) -> None:
    listing(api)
    cloud.tokens.clear()
    gate = threading.Barrier(4)
    refused = Reply(401, {"error": {"message": "revoked"}})

    def answer(seen: Any) -> Reply:
        if seen.headers["X-Auth-Token"] == "token-number-1":
            gate.wait(5)
            return refused
        return SERVERS

    cloud.tokens.add("token-number-1")
    cloud.routes[LIST] = answer
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(listing(api)), daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert answers == [{"servers": []}] * 4
    assert cloud.logins == 2


def test_tokens_of_the_second_of_a_revocation_are_revoked_too(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    listing(api)
    revoked_until = clock.time() + 1.0
    log_in = cloud.login

    def log_in_too_soon(seen: Any) -> Reply:
        reply = log_in(seen)
        if clock.time() < revoked_until:
            cloud.tokens.clear()
        return reply

    cloud.tokens.clear()
    cloud.login = log_in_too_soon
    assert create(api) == {"server": {"id": "s1"}}
    assert cloud.logins == 3
    assert clock.paused == pytest.approx(1.0)


def test_a_token_that_is_revoked_between_nova_and_glance_is_renewed(
    cloud: StubCloud, api: Api
) -> None:
    message = "Not authorized for image 6f2f80de-61f6-4aa4-9cd3-6ce5ac6a3e64."
    refused = Reply(400, {"badRequest": {"code": 400, "message": message}})
    cloud.on(CREATE, refused, MADE)
    assert create(api) == {"server": {"id": "s1"}}
    assert cloud.logins == 2
    cloud.on(CREATE, refused)
    with pytest.raises(InvalidRequest, match="Not authorized for image"):
        create(api)


def test_fresh_tokens_that_are_refused_are_unauthorized(cloud: StubCloud, api: Api) -> None:
    cloud.on(CREATE, Reply(401, {"error": {"message": "Nobody may."}}))
    with pytest.raises(Unauthorized, match=r"clouds.uniform.auth: the token is not accepted"):
        create(api)
    assert len(cloud.asked(CREATE)) == 3


def test_no_fresh_token_is_waited_for_past_the_deadline(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.on(CREATE, Reply(401, {"error": {"message": "Nobody may."}}))
    with pytest.raises(Unauthorized):
        api.call("POST", "compute", "/servers", body={}, deadline=Deadline.after(clock, 0.9))
    assert len(cloud.asked(CREATE)) == 2
    assert clock.paused == 0.0


def test_a_fixed_token_that_has_expired_is_unauthorized(cloud: StubCloud, clock: FakeClock) -> None:
    cloud.tokens.add("handed-out")
    options = cloud.options(auth_type="token")
    options["auth"] = {
        "auth_url": f"{cloud.url}/v3",
        "token": "handed-out",
        "project_name": "p",
        "project_domain_name": "Default",
    }
    api = make_api(options, clock)
    assert listing(api) == {"servers": []}
    cloud.tokens.clear()
    with pytest.raises(Unauthorized, match=r"does not accept the token \(401\)"):
        listing(api)
    api.close()


@pytest.mark.parametrize("status", [503, 401])
def test_a_token_that_ends_soon_serves_while_keystone_gives_no_new_one(
    status: int, cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.token_seconds = 100.0  # keystoneauth renews those that have less than 120 s left
    listing(api)
    clock.advance(LOGIN_AGAIN)
    cloud.login = lambda _: Reply(status, {"error": {"message": "no"}})
    asked = len(cloud.asked("POST /v3/auth/tokens"))
    assert listing(api) == {"servers": []}
    assert listing(api) == {"servers": []}
    assert len(cloud.asked("POST /v3/auth/tokens")) == asked + 1  # it is not asked each time


def test_while_keystone_hangs_a_good_token_serves_and_few_wait(
    cloud: StubCloud, clock: FakeClock, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RENEW_SECONDS", 0.3)
    cloud.token_seconds = 100.0
    listing(api)
    clock.advance(LOGIN_AGAIN)
    ended = hang_logins(cloud)
    took: list[float] = []

    def ask() -> None:
        begun = time.monotonic()
        assert listing(api) == {"servers": []}
        took.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert api.project_id(api.deadline()) == "p1", "nor does what asks keystoneauth wait"
    assert api.has_service("image", api.deadline())
    ended.set()
    assert len(took) == 4
    assert len([seconds for seconds in took if seconds >= 0.3]) == 1
    assert max(took) < 1.0
    assert cloud.logins == 1


def test_an_ageing_token_is_replaced_before_it_ends(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.token_seconds = 100.0
    listing(api)
    clock.advance(LOGIN_AGAIN)
    cloud.token_seconds = 3600.0
    for _ in range(3):
        listing(api)
        clock.advance(LOGIN_AGAIN)
    assert cloud.asked(LIST)[-1].headers["X-Auth-Token"] == "token-number-2"
    assert cloud.logins == 2


def test_keystone_away_at_the_first_call_is_unreachable(cloud: StubCloud, api: Api) -> None:
    cloud.login = lambda _: Reply(500, {"error": {"message": "broken"}})
    with pytest.raises(Unreachable, match=r"auth.auth_url: Keystone at .* with 500: broken"):
        create(api)
    cloud.login = lambda _: Reply(drop=True)
    with pytest.raises(Unreachable, match=r"auth.auth_url: Keystone at "):
        create(api)
    assert cloud.asked(CREATE) == []


def test_a_keystone_that_talks_nonsense_is_unauthorized(cloud: StubCloud, api: Api) -> None:
    cloud.login = lambda _: Reply(201, {"hello": "world"})
    with pytest.raises(Unauthorized, match="auth_url: what answers at"):
        listing(api)


def test_calls_behind_a_hanging_login_end_at_their_own_deadlines(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    done = hang_logins(cloud)
    failures: list[Exception] = []

    def ask() -> None:
        try:
            listing(api, deadline=Deadline.after(clock, 0.1))
        except Unreachable as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    took = time.monotonic() - begun
    done.set()
    assert len(failures) == 3
    assert took < 1.0
