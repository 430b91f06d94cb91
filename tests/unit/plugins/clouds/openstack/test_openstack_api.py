"""Calls over real sockets to a stub of OpenStack, through keystoneauth's own session."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from isoneph.core.errors import (
    InvalidRequest,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.clouds.openstack.api import REFRESH_PAUSE, Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import EndpointGone, Forbidden, NotFound
from stub_openstack import PASSWORD, Reply, StubCloud, stub_cloud

LIST = "GET compute/servers/detail"
CREATE = "POST compute/servers"
SERVERS = Reply(200, {"servers": []})


@pytest.fixture
def cloud() -> Iterator[StubCloud]:
    with stub_cloud() as cloud:
        cloud.on(LIST, SERVERS)
        cloud.on(CREATE, Reply(202, {"server": {"id": "s1"}}))
        yield cloud


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api(cloud: StubCloud, clock: FakeClock) -> Iterator[Api]:
    api = make_api(cloud.options(), clock)
    yield api
    api.close()


def make_api(options: dict[str, Any], clock: FakeClock, timeout: float = 20.0) -> Api:
    return Api(options, make_environment("uniform", clock=clock, timeout=timeout))


def listing(api: Api, **more: Any) -> Any:
    return api.call("GET", "compute", "/servers/detail", **more).body


def create(api: Api, **more: Any) -> Any:
    return api.call("POST", "compute", "/servers", body={"server": {"name": "a"}}, **more).body


def test_making_one_asks_nobody(cloud: StubCloud, api: Api) -> None:
    assert cloud.seen == []


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


def test_the_answer_has_status_body_and_headers(cloud: StubCloud, api: Api) -> None:
    cloud.on("DELETE compute/servers/s1", Reply(204, None, {"X-Compute-Request-Id": "req-1"}))
    answer = api.call("DELETE", "compute", "/servers/s1")
    assert (answer.status, answer.body) == (204, None)
    assert answer.headers["x-compute-request-id"] == "req-1"


def test_body_and_query_arrive_and_the_program_says_who_it_is(cloud: StubCloud, api: Api) -> None:
    listing(api, params={"limit": 5})
    create(api)
    assert cloud.asked(LIST)[0].path.endswith("?limit=5")
    (sent,) = cloud.asked(CREATE)
    assert sent.body == {"server": {"name": "a"}}
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["User-Agent"].startswith("isoneph/")


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
    assert api.compute_version == spoken
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
    assert api.compute_version == (2, 1)
    cloud.microversion = "2.90"
    assert api.compute_version == (2, 1)
    clock.advance(61)
    api.close()  # keystoneauth remembers the answer for as long as the session
    assert api.compute_version == (2, 90)


def test_other_services_are_below_their_versions(cloud: StubCloud, api: Api) -> None:
    cloud.on("GET network/ports", Reply(200, {"ports": []}))
    cloud.on("GET image/images", Reply(200, {"images": []}))
    assert api.call("GET", "network", "/ports").body == {"ports": []}
    assert api.call("GET", "image", "/images").body == {"images": []}
    assert cloud.asked("GET network/ports")[0].path == "/network/v2.0/ports"
    assert cloud.asked("GET image/images")[0].path == "/image/v2/images"
    assert "OpenStack-API-Version" not in cloud.asked("GET network/ports")[0].headers


def test_services_are_known_from_the_catalog(cloud: StubCloud, api: Api) -> None:
    assert api.has_service("compute")
    assert not api.has_service("volume")
    assert api.project_id == "p1"
    with pytest.raises(Unauthorized, match="no block-storage service for region_name 'One'"):
        api.call("GET", "volume", "/volumes")


def test_a_login_to_no_project_tells_what_is_missing(cloud: StubCloud, api: Api) -> None:
    cloud.catalog = {}
    for ask in (lambda: api.has_service("volume"), lambda: listing(api)):
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


def test_a_token_that_is_refused_twice_is_unauthorized(cloud: StubCloud, api: Api) -> None:
    cloud.on(CREATE, Reply(401, {"error": {"message": "Nobody may."}}))
    with pytest.raises(Unauthorized, match=r"clouds.uniform.auth: the token is not accepted"):
        create(api)
    assert len(cloud.asked(CREATE)) == 2


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


def test_a_token_that_ends_soon_serves_while_keystone_is_away(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.token_seconds = 100.0  # keystoneauth renews those that have less than 120 s left
    listing(api)
    cloud.login = lambda _: Reply(503, {"error": {"message": "away"}})
    asked = len(cloud.asked("POST /v3/auth/tokens"))
    assert listing(api) == {"servers": []}
    assert listing(api) == {"servers": []}
    assert len(cloud.asked("POST /v3/auth/tokens")) == asked + 1  # it is not asked each time


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


def test_nothing_is_sent_after_the_deadline(cloud: StubCloud, clock: FakeClock, api: Api) -> None:
    listing(api)
    seen = len(cloud.seen)
    with pytest.raises(Unreachable, match="time for the call was up before it was sent"):
        create(api, deadline=Deadline.after(clock, -1.0))
    assert len(cloud.seen) == seen


def test_an_answer_that_comes_too_late_leaves_a_create_in_doubt(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    listing(api)
    cloud.on(CREATE, Reply(202, {}, pause=0.3))
    cloud.on(LIST, Reply(200, {}, pause=0.3))
    soon = Deadline.after(clock, 0.05)
    with pytest.raises(OutcomeUnknown, match="no answer in time"):
        create(api, deadline=soon)
    with pytest.raises(Unreachable, match="no answer in time"):
        listing(api, deadline=soon)
    assert len(cloud.asked(CREATE)) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(drop=True),
        Reply(202, {"server": {"id": "s1"}}, drop=True, sent=5),
        Reply(202, b"<html>hello"),
        Reply(202, b"\xff"),
        Reply(500, {"computeFault": {"message": "Unexpected API Error."}}),
        Reply(504, b"<html><h1>Gateway Time-out</h1></html>"),
    ],
)
def test_a_create_without_a_proper_answer_is_in_doubt_and_not_sent_again(
    reply: Reply, cloud: StubCloud, api: Api
) -> None:
    listing(api)
    cloud.on(CREATE, reply)
    with pytest.raises(OutcomeUnknown, match="POST /servers"):
        create(api)
    assert len(cloud.asked(CREATE)) == 1


def test_reading_is_repeated_once_after_a_dropped_connection(cloud: StubCloud, api: Api) -> None:
    cloud.on(LIST, Reply(drop=True), SERVERS)
    assert listing(api) == {"servers": []}
    cloud.on(LIST, Reply(drop=True), Reply(200, {"servers": []}, drop=True, sent=3), SERVERS)
    with pytest.raises(Unreachable):
        listing(api)
    assert len(cloud.asked(LIST)) == 4


def test_what_only_looks_like_changing_can_be_told_so(cloud: StubCloud, api: Api) -> None:
    cloud.on(CREATE, Reply(500))
    with pytest.raises(Unreachable):
        create(api, changing=False)


def test_an_unexpected_status_is_an_error_also_when_it_is_one_of_success(
    cloud: StubCloud, api: Api
) -> None:
    with pytest.raises(OutcomeUnknown, match="with 202"):
        create(api, expect=(201,))


def test_refusals_come_as_isonephs_own_errors(cloud: StubCloud, api: Api) -> None:
    quota = {"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1"}}
    cloud.on(CREATE, Reply(403, quota))
    with pytest.raises(QuotaExceeded, match="Quota exceeded for instances"):
        create(api)
    cloud.on(CREATE, Reply(400, {"badRequest": {"message": "Flavor f could not be found."}}))
    with pytest.raises(InvalidRequest, match="Flavor f could not be found"):
        create(api)
    cloud.on(LIST, Reply(403, {"forbidden": {"message": "Policy doesn't allow it."}}))
    with pytest.raises(Forbidden, match="roles of user 'bot'"):
        listing(api)
    with pytest.raises(NotFound):
        api.call("GET", "compute", "/servers/gone")


def test_throttling_holds_all_calls_until_the_cloud_wants_them(
    cloud: StubCloud, clock: FakeClock, api: Api
) -> None:
    cloud.on(LIST, Reply(429, {"overLimit": {"message": "slow"}}, {"Retry-After": "7"}), SERVERS)
    with pytest.raises(Throttled) as caught:
        listing(api)
    assert caught.value.retry_after == 7.0
    paused = clock.paused
    create(api)
    assert clock.paused - paused == pytest.approx(7.0)


def test_calls_are_bounded_by_the_options(cloud: StubCloud, clock: FakeClock) -> None:
    api = make_api(cloud.options(calls_per_second=0.5, burst=2), clock)
    listing(api)
    listing(api)
    assert clock.paused == 0.0
    listing(api)
    assert clock.paused == pytest.approx(2.0)
    with pytest.raises(Throttled) as caught:
        listing(api, deadline=Deadline.after(clock, 1.0))
    assert caught.value.retry_after == pytest.approx(2.0)
    listing(api)  # being told so held nobody up
    assert clock.paused == pytest.approx(4.0)
    api.close()


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


def test_closed_it_can_be_used_again(cloud: StubCloud, api: Api) -> None:
    api.close()
    listing(api)
    api.close()
    api.close()
    assert listing(api) == {"servers": []}
    assert cloud.logins == 2


def test_no_secret_is_repeated_from_a_refusal(cloud: StubCloud, api: Api) -> None:
    data = "c2VjcmV0IHVzZXIgZGF0YQ=="
    text = f"Invalid input for field/attribute server. Value: {{'user_data': '{data}'}}. {PASSWORD}"
    cloud.on(CREATE, Reply(400, {"badRequest": {"message": text}}))
    with pytest.raises(InvalidRequest) as caught:
        api.call("POST", "compute", "/servers", body={"server": {"user_data": data}})
    assert "Invalid input for field/attribute server" in str(caught.value)
    assert data not in str(caught.value)
    assert PASSWORD not in str(caught.value)
