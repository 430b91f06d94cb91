from __future__ import annotations

import httpx
import pytest

from cli_runs import FakeService
from isoneph.core.cli.client import Client
from isoneph.core.cli.failures import CommandFailed, Refused, UsageError


def client(
    service: FakeService, *, application: str | None = None, token: str | None = None
) -> Client:
    return Client("http://service", application=application, token=token)


def test_follows_the_pages(service: FakeService) -> None:
    first, second, third, silence = ({"id": text} for text in "abcd")
    following = "/v1/shop/vm?limit=1000&marker=2"
    service.answer({"vms": [first, second], "incomplete": [], "next": following})
    service.answer({"vms": [third], "incomplete": [silence]})
    listing = client(service, application="shop").list_vms({"tag.role": "front"})
    assert (listing.vms, listing.incomplete) == ([first, second, third], [silence])
    assert service.lines == [
        "GET /v1/shop/vm?tag.role=front",
        "GET /v1/shop/vm?limit=1000&marker=2",
    ]


def test_does_not_ask_for_pages_beyond_the_limit(service: FakeService) -> None:
    vms = [{"id": "a"}, {"id": "b"}]
    service.answer({"vms": vms, "incomplete": [], "next": "/vm?marker=2"})
    assert client(service).list_vms({}, 2).vms == vms
    assert service.lines == ["GET /vm?limit=2"]


def test_a_limit_beyond_a_page_takes_several(service: FakeService) -> None:
    service.answer({"vms": [0] * 1000, "incomplete": [], "next": "/vm?marker=m"})
    service.answer({"vms": [0] * 1000, "incomplete": []})
    assert len(client(service).list_vms({}, 1500).vms) == 1500
    assert service.lines[0] == "GET /vm?limit=1000"


def test_names_are_quoted_in_paths(service: FakeService) -> None:
    service.answer({})
    client(service, application="a/b").get_vm("../c?d")
    assert service.lines == ["GET /v1/a%2Fb/vm/..%2Fc%3Fd"]


def test_a_create_is_repeated_with_its_key(service: FakeService) -> None:
    service.fail(httpx.ReadError("reset"))
    service.fail(httpx.ConnectError("refused"))
    service.answer({"id": "v"}, 201)
    made = client(service).create_vms({"type": "web"}, "k")
    assert made == {"vms": [{"id": "v"}], "failures": []}
    assert [one.headers["idempotency-key"] for one in service.requests] == ["k"] * 3


def test_gives_up_and_tells_the_key(service: FakeService) -> None:
    for _ in range(3):
        service.fail(httpx.ReadTimeout("timed out"))
    with pytest.raises(CommandFailed) as caught:
        client(service).create_vms({"type": "web"}, "k")
    assert caught.value.message == "no answer from http://service: timed out"
    assert caught.value.hint == "it may have been done; to repeat it safely: --key k"


def test_does_not_wait_for_a_service_that_is_not_there(service: FakeService) -> None:
    service.fail(httpx.ConnectError("refused"))
    with pytest.raises(CommandFailed) as caught:
        client(service).list_types()
    assert caught.value.message == "cannot reach http://service: refused"
    assert "isoneph serve" in str(caught.value.hint)
    assert len(service.requests) == 1


def test_a_refusal_tells_everything(service: FakeService) -> None:
    service.problem(
        503,
        "placement_failed",
        "no cloud is left",
        errors=[{"path": "$.count", "text": "expected more"}],
        refusals=[{"cloud": "oslo", "code": "no_capacity", "text": "full", "at": 0}],
        vms=["v"],
    )
    with pytest.raises(Refused) as caught:
        client(service).explain({})
    assert caught.value.code == "placement_failed"
    assert caught.value.message.splitlines() == [
        "no cloud is left",
        "  $.count: expected more",
        "  oslo: no_capacity: full",
        "  placed all the same: v",
    ]


def test_tells_when_to_come_back(service: FakeService) -> None:
    service.answer({"code": "throttled", "detail": "slowly"}, 503, **{"retry-after": "7"})
    with pytest.raises(Refused) as caught:
        client(service).list_clouds()
    assert caught.value.hint == "try again in 7 s"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(502, text="<html>Bad Gateway"),
        httpx.Response(404, json={"message": "no route"}),
    ],
)
def test_others_than_isoneph_are_recognised(service: FakeService, answer: httpx.Response) -> None:
    service.answers.append(answer)
    with pytest.raises(CommandFailed, match="as isoneph does"):
        client(service).get_vm("v")


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://x:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        Client(url).list_types()


def test_a_url_with_a_password_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        Client("http://me:secret@service")
    assert "secret" not in caught.value.message


def test_the_token_is_sent(service: FakeService) -> None:
    service.answer({"types": []})
    client(service, token="t").list_types()
    assert service.requests[0].headers["authorization"] == "Bearer t"


def test_waits_in_several_requests(service: FakeService) -> None:
    service.problem(504, "wait_timeout", "still BUILDING")
    service.answer({"state": "ACTIVE"})
    assert client(service).wait("v", "ACTIVE", 25.0) == {"state": "ACTIVE"}
    assert service.lines == ["GET /vm/v?wait=ACTIVE&timeout=10.000"] * 2


def test_waits_no_longer_than_told(service: FakeService) -> None:
    service.problem(504, "wait_timeout", "still BUILDING")
    with pytest.raises(Refused, match="still BUILDING"):
        client(service).wait("v", "ACTIVE", 2.0)
    assert service.requests[0].url.params["timeout"].startswith(("1.99", "2.0"))


def test_another_failure_ends_the_wait(service: FakeService) -> None:
    service.problem(404, "unknown_vm", "gone")
    with pytest.raises(Refused, match="gone"):
        client(service).wait("v", "ACTIVE", 25.0)
