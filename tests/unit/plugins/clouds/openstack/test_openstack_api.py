"""Calls over real sockets to a stub of OpenStack, through keystoneauth's own session."""

import pytest

from isoneph.core.errors import (
    InvalidRequest,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import EndpointGone, Forbidden, NotFound
from stub_calls import CREATE, LIST, SERVERS, create, listing, make_api
from stub_openstack import PASSWORD, Reply, StubCloud


def test_making_one_asks_nobody(cloud: StubCloud, api: Api) -> None:
    assert cloud.seen == []


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


def test_nothing_is_sent_after_the_deadline(cloud: StubCloud, clock: FakeClock, api: Api) -> None:
    listing(api)
    seen = len(cloud.seen)
    with pytest.raises(Unreachable, match="time for the call was up before it was sent") as caught:
        create(api, deadline=Deadline.after(clock, -1.0))
    assert len(cloud.seen) == seen
    assert not isinstance(caught.value, EndpointGone), "nothing is known of the endpoint"
    listing(api)
    assert cloud.logins == 1


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
