"""Endpoints, their versions and the catalog that tells of them, at a stub of OpenStack."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from isoneph.core.errors import CloudError, Throttled, Unauthorized, Unreachable
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.api import REFRESH_PAUSE, Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import EndpointGone
from isoneph.plugins.clouds.openstack.link import DISCOVER_AGAIN
from stub_calls import LIST, SERVERS, create, listing, make_api
from stub_openstack import Reply, StubCloud, stub_cloud


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
