"""A service's life: what signals do to it, and what it does when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from services import Service, wait_for

WORKER = {"type": "worker"}


def connect(service: Service) -> socket.socket:
    url = urlsplit(service.urls()[-1])
    return socket.create_connection((url.hostname, url.port), timeout=10)


def slow_creates(service: Service, seconds: float) -> None:
    service.write_clouds(uniform={"latency": {"create": seconds}})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_however_many_idle_connections_there_are(
    service: Service, number: signal.Signals
) -> None:
    service.start()
    with service.client() as client, closing(connect(service)):
        assert client.get("/vm").status_code == 200
        begun = time.monotonic()
        service.signal(number)
        assert service.wait() == 0
        assert time.monotonic() - begun < 3.0
    assert service.said().rstrip().endswith("stopped")
    assert "Traceback" not in service.said()


def test_ctrl_c_reaches_all_processes_and_stops_in_order(service: Service) -> None:
    slow_creates(service, 1.0)
    service.start()
    with service.client() as client, ThreadPoolExecutor() as threads:
        creating = threads.submit(client.post, "/vm", json=WORKER)
        wait_for(lambda: service.cloud("uniform").calls().get("create"), "the create")
        os.killpg(service.pid, signal.SIGINT)
        assert creating.result().status_code == 201
    assert service.wait() == 0


def test_what_was_begun_is_finished_and_answered(service: Service) -> None:
    slow_creates(service, 1.0)
    service.start()
    with service.client() as client, ThreadPoolExecutor() as threads:
        creating = threads.submit(client.post, "/vm", json=WORKER)
        wait_for(lambda: service.cloud("uniform").calls().get("create"), "the create")
        service.signal(signal.SIGTERM)
        response = creating.result()
    assert response.status_code == 201
    assert response.headers["connection"] == "close"
    assert service.wait() == 0


def test_what_was_begun_is_finished_though_nobody_waits_for_it(service: Service) -> None:
    slow_creates(service, 1.0)
    service.start()
    with service.client(timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/vm", json=WORKER)
    assert service.stop() == 0
    with closing(service.cloud("uniform")) as cloud:
        assert len(cloud.vms()) == 1


def test_a_request_that_only_waits_is_answered_when_the_service_stops(service: Service) -> None:
    service.write_clouds(uniform={"boot_seconds": 1000})
    service.start()
    with service.client() as client, ThreadPoolExecutor() as threads:
        url = client.post("/vm", json=WORKER).headers["location"]
        waiting = threads.submit(client.get, f"{url}?wait=ACTIVE&timeout=600")
        time.sleep(0.3)
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 3.0
        assert waiting.result().status_code == 503
        assert waiting.result().json()["code"] == "shutting_down"


def test_what_takes_longer_than_the_graceful_time_out_is_cut(service: Service) -> None:
    slow_creates(service, 60.0)
    service.write_service(api={"graceful_timeout": 0.5})
    service.start()
    with service.client() as client, ThreadPoolExecutor() as threads:
        creating = threads.submit(client.post, "/vm", json=WORKER)
        wait_for(lambda: service.cloud("uniform").calls().get("create"), "the create")
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 8.0
        with pytest.raises(httpx.TransportError):
            creating.result()
    assert "1 connections are cut" in service.said()


def test_sigquit_ends_at_once(service: Service) -> None:
    slow_creates(service, 60.0)
    service.start()
    with service.client() as client, ThreadPoolExecutor() as threads:
        creating = threads.submit(client.post, "/vm", json=WORKER)
        wait_for(lambda: service.cloud("uniform").calls().get("create"), "the create")
        begun = time.monotonic()
        service.signal(signal.SIGQUIT)
        assert service.wait() == 0
        assert time.monotonic() - begun < 3.0
        with pytest.raises(httpx.TransportError):
            creating.result()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced_and_nothing_is_lost(
    service: Service, number: signal.Signals
) -> None:
    service.start()
    with service.client() as client:
        vm = client.post("/vm", json=WORKER).json()
    [worker] = service.workers()
    os.kill(worker, number)
    wait_for(lambda: len(service.urls()) == 2, "another worker")
    assert service.workers() != [worker]
    assert len(service.workers()) == 1
    with service.client() as client:
        assert client.get(f"/vm/{vm['id']}").json()["cloud"] == vm["cloud"]
    assert service.urls()[0] == service.urls()[1]
    assert service.stop() == 0


def test_a_worker_whose_master_is_killed_ends(service: Service) -> None:
    service.start()
    [worker] = service.workers()
    service.signal(signal.SIGKILL)
    service.wait()
    wait_for(lambda: not psutil.pid_exists(worker), "the worker's end")
    assert "stopped" in service.said()


def test_another_can_be_started_as_soon_as_the_master_is_killed(
    make_service: Callable[..., Service],
) -> None:
    """What the killed one's worker has begun, it finishes."""
    killed, next_one = make_service(), make_service()
    slow_creates(killed, 4.0)
    killed.start()
    next_one.write_service(api={"port": urlsplit(killed.urls()[0]).port})
    with killed.client() as client, ThreadPoolExecutor() as threads:
        creating = threads.submit(client.post, "/vm", json=WORKER)
        wait_for(lambda: killed.cloud("uniform").calls().get("create"), "the create")
        killed.signal(signal.SIGKILL)
        killed.wait()
        next_one.start()
        assert not creating.done()
        assert creating.result().status_code == 201
    assert killed.said().count("the master is gone") == 1
    assert next_one.stop() == 0


def test_there_is_always_one_worker(service: Service) -> None:
    service.start()
    workers = service.workers()
    for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2, signal.SIGWINCH, signal.SIGUSR1):
        service.signal(number)
    with service.client() as client:
        for _ in range(10):
            assert client.get("/health/live").status_code == 200
            time.sleep(0.1)
    assert service.workers() == workers
    assert service.stop() == 0


def test_clients_are_served_all_the_time_while_workers_come_and_go(service: Service) -> None:
    service.start()
    stop, answers = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            with service.client() as client:
                answers.append(client.get("/health/live").status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    [worker] = service.workers()
    os.kill(worker, signal.SIGTERM)  # the master keeps the port: clients wait, and are served
    wait_for(lambda: len(service.urls()) == 2, "another worker")
    stop.set()
    asking.join()
    assert set(answers) == {200}
