"""HTTP as it comes over a socket: what is broken, slow, cut off or too much."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services import Service, wait_for

WORKER = {"type": "worker"}
BODY = b'{"type": "worker"}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that the tests of this module share."""
    service = Service(tmp_path_factory.mktemp("service"))
    service.write_service(api={"max_body": 1000})
    yield service.start()
    service.kill()


def connect(service: Service) -> socket.socket:
    url = urlsplit(service.urls()[-1])
    return socket.create_connection((url.hostname, url.port), timeout=10)


def exchange(service: Service, *sent: bytes) -> bytes:
    """What comes back for some bytes until the connection ends."""
    with closing(connect(service)) as sock:
        for part in sent:
            sock.sendall(part)
        received = b""
        while data := sock.recv(65536):
            received += data
    return received


def status_and_problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"gunicorn" not in head.lower()
    problem = json.loads(body)
    status = int(head.split()[1])
    assert problem["status"] == status
    return status, problem["code"]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "malformed_request"),
        (b"GET /vm HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed_request"),
        (
            b"POST /vm HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "malformed_request",
        ),
        (b"GET /vm?tag.a=" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
        (
            b"GET /vm HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
            431,
            "headers_too_large",
        ),
        (
            b"GET /vm HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n",
            431,
            "headers_too_large",
        ),
    ],
)
def test_what_is_not_http_is_a_problem_too(
    running: Service, request_: bytes, status: int, code: str
) -> None:
    answer = exchange(running, request_)
    assert status_and_problem(answer) == (status, code)


def test_a_chunked_body_without_a_length_has_the_same_limit(running: Service) -> None:
    head = (
        b"POST /vm HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunks = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (BODY, b" " * 500, b" " * 500)]
    assert status_and_problem(exchange(running, head, *chunks)) == (413, "body_too_large")


def test_a_body_that_says_it_is_too_large_is_not_read(running: Service) -> None:
    head = (
        b"POST /vm HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000000\r\n\r\n{"
    )
    assert status_and_problem(exchange(running, head)) == (413, "body_too_large")


def test_who_expects_to_be_told_to_go_on_is_told(running: Service) -> None:
    with closing(connect(running)) as sock:
        sock.sendall(
            b"POST /placement HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 18\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(BODY)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_requests_may_follow_one_another_without_waiting(running: Service) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    answer = exchange(running, (request + b"\r\n") * 4 + request + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 5


def test_old_clients_are_served(running: Service) -> None:
    assert exchange(running, b"GET /health/live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")


def test_a_websocket_is_refused(running: Service) -> None:
    answer = exchange(
        running,
        b"GET /vm HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_no_version_of_anything_below_is_told(running: Service) -> None:
    with running.client() as client:
        for url in ("/", "/nope", "/metrics"):
            assert client.get(url).headers["server"] == "isoneph"


def test_a_client_that_hangs_up_leaves_a_whole_vm(running: Service) -> None:
    with closing(running.cloud("uniform")) as uniform, running.client() as client:
        uniform.override(latency={"create": 0.5})
        calls = uniform.calls().get("create", 0)
        before = client.get("/vm").json()["total"]
        with closing(connect(running)) as sock:
            body = b'{"type": "worker", "cloud": "uniform"}'
            sock.sendall(
                b"POST /vm HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            wait_for(lambda: uniform.calls().get("create", 0) > calls or None, "the create")
        wait_for(lambda: client.get("/vm").json()["total"] == before + 1, "the VM")
        uniform.restore()
    assert "Traceback" not in running.said()


def test_a_client_that_hangs_up_in_the_middle_of_a_request_harms_nobody(running: Service) -> None:
    head = b"POST /vm HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for sent in (b"POST /vm HT", head, head + b"Content-Length: 18\r\n\r\n" + BODY[:9]):
        with closing(connect(running)) as sock:
            sock.sendall(sent)
    with running.client() as client:
        assert client.get("/health/ready").status_code == 200
    assert "Traceback" not in running.said()


def test_a_hung_cloud_leaves_the_others_requests_fast(service: Service) -> None:
    service.start()
    with closing(service.cloud("uniform")) as uniform, service.client() as client:
        elsewhere = client.post("/vm", json={**WORKER, "cloud": "quebec"}).headers["location"]
        uniform.inject("hang", seconds=60.0)

        def timed(method: str, url: str, **more: Any) -> tuple[float, httpx.Response]:
            begun = time.monotonic()
            response = client.request(method, url, **more)
            return time.monotonic() - begun, response

        # From the first moment on, for whoever has to do with other clouds only.
        for method, url in (("GET", elsewhere), ("GET", "/type"), ("GET", "/health/ready")):
            took, response = timed(method, url)
            assert (took < 0.5, response.status_code) == (True, 200), url
        took, response = timed("POST", "/vm", json={**WORKER, "cloud": "quebec"})
        assert (took < 0.5, response.status_code) == (True, 201)
        # A list shows what the others have, after the patience that one has with a cloud.
        silent: list[str] = []
        while not silent:
            took, response = timed("GET", "/vm")
            assert took < 5.0
            silent = [one["cloud"] for one in response.json()["incomplete"]]
        assert silent == ["uniform"]
        # And then it is known, so that nothing is placed there.
        for _ in range(20):
            took, response = timed("POST", "/vm", json=WORKER)
            assert (took < 0.5, response.json()["cloud"]) == (True, "quebec")
    service.kill()


def test_many_slow_requests_do_not_hold_up_quick_ones(service: Service) -> None:
    service.write_clouds(uniform={"latency": {"create": 1.0}})
    service.start()

    def create() -> int:
        with service.client() as client:
            return client.post("/vm", json=WORKER).status_code

    with ThreadPoolExecutor(40) as threads, service.client() as client:
        creating = [threads.submit(create) for _ in range(40)]
        time.sleep(0.3)
        begun = time.monotonic()
        assert client.get("/health/live").status_code == 200
        assert time.monotonic() - begun < 0.3
        assert [one.result() for one in creating] == [201] * 40


def test_the_log_can_be_read_by_programs(service: Service) -> None:
    service.write_service(DEFAULT={"log_format": "json"})
    service.start()
    with service.client(headers={"X-Request-Id": "order-17"}) as client:
        client.post("/vm", json=WORKER)
    assert service.stop() == 0
    entries = [json.loads(line) for line in service.said().splitlines()]
    mine = [entry for entry in entries if entry.get("request_id") == "order-17"]
    assert [entry["logger"] for entry in mine] == ["isoneph.core.placing", "isoneph.access"]
    access = mine[-1]
    assert access | {"method": "POST", "path": "/vm", "status": 201, "token": None} == access
    assert access["ms"] > 0
    assert access["time"].endswith("Z")
