"""Starting: where it listens, and how it says why it does not start."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from services import Service, wait_for

ANYWHERE = "0.0.0.0"  # noqa: S104 (that this is noticed is what the tests show)


#: Makes the socket number 3, and LISTEN_PID the service's own.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def fails(service: Service, code: int) -> str:
    """What a service that cannot start says, which ends with ``code`` and soon."""
    begun = time.monotonic()
    service.spawn()
    assert service.wait() == code
    assert time.monotonic() - begun < 5.0
    said = service.said()
    assert "Traceback" not in said
    return said


def test_a_wrong_configuration_is_told_line_by_line(service: Service) -> None:
    service.write_application("mme", types={}, deadline=-1)
    service.write_clouds(uniform={"boot_seconds": "soon"})
    lines = fails(service, 2).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("isoneph: ") for line in lines)


def test_an_open_application_is_not_offered_to_other_machines(service: Service) -> None:
    service.write_service(api={"host": ANYWHERE})
    [line] = fails(service, 2).splitlines()
    assert "tokens" in line


def test_an_open_application_is_offered_to_other_machines_when_that_is_meant(
    service: Service,
) -> None:
    service.write_service(api={"host": ANYWHERE, "allow_unauthenticated": True})
    service.start()
    assert service.urls()[0].startswith("http://0.0.0.0:")


def test_a_port_in_use_is_told(service: Service) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        service.write_service(api={"port": port})
        [line] = fails(service, 1).splitlines()
    assert line == f"isoneph: cannot listen on 127.0.0.1 port {port}: address already in use"


def test_a_host_that_is_not_here_is_told(service: Service) -> None:
    service.write_service(api={"host": "192.0.2.1", "allow_unauthenticated": True})
    [line] = fails(service, 1).splitlines()
    assert line.startswith("isoneph: cannot listen on 192.0.2.1 port 0: ")


def test_a_plugin_that_does_not_start_is_told_in_one_line(service: Service) -> None:
    service.state = Path("/proc/nowhere/clouds.db")
    service.write_clouds(uniform={})
    [line] = fails(service, 1).splitlines()
    assert "CRITICAL isoneph.service cannot start: " in line
    assert "/proc/nowhere" in line


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


def test_it_listens_on_ipv6_too(service: Service) -> None:
    if not has_ipv6():
        pytest.skip("the kernel's loopback has no ::1, so nothing can listen there")
    service.write_service(api={"host": "::1"})
    service.start()
    assert service.urls()[0].startswith("http://[::1]:")
    with service.client() as client:
        assert client.get("/health/ready").status_code == 200


def test_two_services_may_use_the_same_clouds(make_service: Callable[[], Service]) -> None:
    first, second = make_service(), make_service()
    second.state = first.state
    second.write_clouds(uniform={}, quebec={})
    with first.start().client() as one, second.start().client() as other:
        vm = one.post("/vm", json={"type": "worker"}).json()
        shown = wait_for(lambda: other.get("/vm").json()["vms"], "the VM")
    assert [each["id"] for each in shown] == [vm["id"]]


def test_systemd_is_told_and_may_hand_over_the_socket(service: Service, tmp_path: Path) -> None:
    address = str(tmp_path / "notify.sock")
    with (
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notify,
        closing(socket.create_server(("127.0.0.1", 0))) as listening,
    ):
        notify.bind(address)
        notify.settimeout(10)
        service.start(
            command=[sys.executable, "-c", AS_SYSTEMD, str(listening.fileno())],
            env={"NOTIFY_SOCKET": address, "LISTEN_FDS": "1"},
            pass_fds=[listening.fileno()],
        )
        assert b"READY=1" in notify.recv(1000)
        port = listening.getsockname()[1]
        assert service.urls() == [f"http://127.0.0.1:{port}"]
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    assert service.stop() == 0


def test_no_remark_of_the_server_below_is_seen(service: Service) -> None:
    service.start()
    assert service.stop() == 0
    lines = service.said().splitlines()
    assert [line.split(" ", 3)[2] for line in lines] == ["isoneph.service"] * 3
    assert "gunicorn" not in service.said()


def test_the_environment_does_not_change_how_it_is_served(service: Service) -> None:
    env = {"WEB_CONCURRENCY": "4", "GUNICORN_CMD_ARGS": "--workers=3", "PORT": "1"}
    service.start(env={**os.environ, **env})
    assert len(service.workers()) == 1
