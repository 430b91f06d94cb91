"""Logins, tokens, endpoints and their versions, at a stub of OpenStack."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack import link
from isoneph.plugins.clouds.openstack.api import REFRESH_PAUSE, Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import EndpointGone
from isoneph.plugins.clouds.openstack.link import DISCOVER_AGAIN, LOGIN_AGAIN
from stub_calls import CREATE, LIST, MADE, SERVERS, create, listing, make_api
from stub_openstack import Reply, StubCloud, stub_cloud


@pytest.fixture
def cloud() -> Iterator[StubCloud]:
    with stub_cloud() as cloud:
        cloud.on(LIST, SERVERS)
        cloud.on(CREATE, MADE)
        yield cloud


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api(cloud: StubCloud, clock: FakeClock) -> Iterator[Api]:
    api = make_api(cloud.options(), clock)
    yield api
    api.close()


def test_one_login_and_one_discovery_serve_all_calls(cloud: StubCloud, api: Api) -> None:
    for _ in range(3):
        assert listing(api) == {"servers": []}
    assert create(api) == {"server": {"id": "s1"}}
    assert [one.path for one in cloud.seen] == [
        "/v3",
        "/v3/auth/tokens",
        "/compute/v2.1/",
        *["/compute/v2.1/servers/detail"] * 3,
        "/compute/v2.1/servers",
    ]


@pytest.mark.parametrize(
    ("offered", "wanted", "spoken"),
    [
        ("2.103", None, (2, 103)),
        ("2.999", None, (2, 103)),
        ("2.60", None, (2, 60)),
        ("2.103", "2.42", (2, 42)),
        ("2.9", "2.42", (2, 9)),
        (None, None, (2, 1)),
        (None, "2.42", (2, 1)),
    ],
)
def test_microversions_are_negotiated(
    offered: str | None,
    wanted: str | None,
    spoken: tuple[int, int],
    cloud: StubCloud,
    clock: FakeClock,
) -> None:
    cloud.microversion = offered
    more = {} if wanted is None else {"compute_default_microversion": wanted}
    api = make_api(cloud.options(**more), clock)
    assert api.compute_version(api.deadline()) == spoken
    listing(api)
    text = "{}.{}".format(*spoken)
    headers = cloud.asked(LIST)[0].headers
    assert headers["OpenStack-API-Version"] == f"compute {text}"
    assert headers["X-OpenStack-Nova-API-Version"] == text
    api.close()


def test_a_cloud_that_told_no_version_is_asked_again_later(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.microversion = None
    assert api.compute_version(api.deadline()) == (2, 1)
    cloud.microversion = "2.90"
    assert api.compute_version(api.deadline()) == (2, 1)
    clock.advance(61)
    api.close()  # keystoneauth remembers the answer for as long as the session
    assert api.compute_version(api.deadline()) == (2, 90)


@pytest.mark.parametrize(
    ("away", "error", "message"),
    [
        (Reply(503, {"message": "restarting"}), Unreachable, "GET / with 503: restarting"),
        (Reply(502, b"<html>Bad Gateway</html>"), Unreachable, "GET / with 502"),
        (Reply(429, {}, {"Retry-After": "7"}), Throttled, "GET / with 429"),
        (Reply(drop=True), Unreachable, "no answer from Nova, GET /"),
    ],
)
def test_a_service_that_is_away_is_not_one_that_tells_no_version(
    away: Reply,
    error: type[CloudError],
    message: str,
    cloud: StubCloud,
    clock: FakeClock,
    api: Api,
) -> None:
    cloud.away["/compute"] = away
    with pytest.raises(error, match=message):
        api.compute_version(api.deadline())
    with pytest.raises(error, match=message):
        create(api)
    clock.advance(REFRESH_PAUSE)
    del cloud.away["/compute"]
    assert api.compute_version(api.deadline()) == (2, 103)


def test_a_service_that_hides_its_versions_is_spoken_to_as_before(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.away["/compute"] = Reply(404, b"<html>from the proxy</html>")
    with pytest.raises(EndpointGone):
        listing(api)
    assert api.compute_version(api.deadline()) == (2, 1)
    del cloud.away["/compute"]
    clock.advance(DISCOVER_AGAIN)
    listing(api)
    cloud.away["/compute"] = Reply(404, b"<html>from the proxy</html>")
    with pytest.raises(EndpointGone):
        listing(api)
    clock.advance(REFRESH_PAUSE)
    with pytest.raises(EndpointGone):
        listing(api)
    assert cloud.logins == 3, "all was read anew, versions too"
    assert api.compute_version(api.deadline()) == (2, 103)


def test_what_is_asked_on_the_way_ends_with_its_verb(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    soon = Deadline.after(clock, 0.2)
    cloud.login = lambda _: Reply(pause=1.0, drop=True)
    asks: list[Callable[[], Any]] = [
        lambda: api.compute_version(soon),
        lambda: api.project_id(soon),
        lambda: api.has_service("volume", soon),
    ]
    for ask in asks:
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            ask()
        assert time.monotonic() - begun < 0.8


def test_other_services_are_below_their_versions(cloud: StubCloud, api: Api) -> None:
    cloud.on("GET network/ports", Reply(200, {"ports": []}))
    cloud.on("GET image/images", Reply(200, {"images": []}))
    assert api.call("GET", "network", "/ports").body == {"ports": []}
    assert api.call("GET", "image", "/images").body == {"images": []}
    assert cloud.asked("GET network/ports")[0].path == "/network/v2.0/ports"
    assert cloud.asked("GET image/images")[0].path == "/image/v2/images"
    assert "OpenStack-API-Version" not in cloud.asked("GET network/ports")[0].headers


def test_services_are_known_from_the_catalog(cloud: StubCloud, api: Api) -> None:
    assert api.has_service("compute", api.deadline())
    assert not api.has_service("volume", api.deadline())
    assert api.project_id(api.deadline()) == "p1"
    with pytest.raises(Unauthorized, match="no block-storage service for region_name 'One'"):
        api.call("GET", "volume", "/volumes")


def test_a_login_to_no_project_tells_what_is_missing(cloud: StubCloud, api: Api) -> None:
    cloud.catalog = {}
    for ask in (lambda: api.has_service("volume", api.deadline()), lambda: listing(api)):
        with pytest.raises(Unauthorized, match="expected project_name or project_id"):
            ask()


def test_an_endpoint_of_the_options_goes_before_the_catalog(
    cloud: StubCloud, clock: FakeClock
) -> None:
    cloud.catalog["compute"] = "http://127.0.0.1:9/nowhere"
    override = f"{cloud.url}/network/%(project_id)s"
    api = make_api(cloud.options(compute_endpoint_override=override), clock)
    cloud.on("GET network/p1/servers/detail", SERVERS)
    assert listing(api) == {"servers": []}
    api.close()


def test_another_region_is_told_by_name(cloud: StubCloud, clock: FakeClock) -> None:
    api = make_api(cloud.options(region_name="Two"), clock)
    with pytest.raises(Unauthorized) as caught:
        listing(api)
    assert str(caught.value) == (
        "clouds.yaml: clouds.uniform: the catalog has no compute service for region_name 'Two' "
        "and interface 'public'"
    )
    api.close()


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
    ended = threading.Event()

    def hang(_: Any) -> Reply:
        ended.wait(5)
        return Reply(drop=True)

    cloud.login = hang
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
    done = threading.Event()

    def hang(_: Any) -> Reply:
        done.wait(5)
        return Reply(drop=True)

    cloud.login = hang
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


def test_endpoints_that_moved_are_found_by_the_next_call(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    listing(api)
    with stub_cloud() as elsewhere:
        elsewhere.tokens = cloud.tokens
        elsewhere.catalog["compute"] = "/new/v2.1"
        elsewhere.on(LIST, Reply(200, {"servers": ["moved"]}))
        cloud.catalog["compute"] = f"{elsewhere.url}/new/v2.1"
        with pytest.raises(EndpointGone, match="not the service that the catalog promises"):
            listing(api)
        assert listing(api) == {"servers": ["moved"]}
        assert cloud.logins == 2


def test_the_catalog_is_read_again_only_now_and_then(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.catalog["compute"] = "http://127.0.0.1:9/compute"
    for _ in range(4):
        with pytest.raises(EndpointGone, match="Connection refused"):
            create(api)
    assert cloud.logins == 2
    clock.advance(REFRESH_PAUSE)
    with pytest.raises(EndpointGone):
        create(api)
    assert cloud.logins == 3


def test_without_keystone_the_old_connection_goes_on(cloud: StubCloud, api: Api) -> None:
    listing(api)
    cloud.on(LIST, Reply(404, b"<html>nginx</html>"), SERVERS)
    cloud.login = lambda _: Reply(drop=True)
    with pytest.raises(EndpointGone):
        listing(api)
    assert listing(api) == {"servers": []}


def test_a_cloud_that_was_downgraded_is_asked_anew_what_it_speaks(
    cloud: StubCloud, api: Api
) -> None:
    listing(api)
    cloud.microversion = "2.79"
    cloud.on(LIST, Reply(406, {"computeFault": {"message": "Version 2.103 is not"}}), SERVERS)
    with pytest.raises(EndpointGone):
        listing(api)
    listing(api)
    assert cloud.asked(LIST)[-1].headers["OpenStack-API-Version"] == "compute 2.79"
