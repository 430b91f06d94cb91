"""SIGHUP: a new configuration while requests go on."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from services import Service, wait_for

WORKER = {"type": "worker"}


def reload(service: Service, said: str = "the configuration is reloaded") -> None:
    before = service.said().count(said)
    service.signal(signal.SIGHUP)
    wait_for(lambda: service.said().count(said) > before, "the reload")


def outcomes(service: Service) -> dict[str, float]:
    """How reloads ended, by the metrics."""
    with service.client() as client:
        lines = client.get("/metrics").text.splitlines()
    prefix = 'isoneph_reloads_total{outcome="'
    found = [line.removeprefix(prefix).split('"} ') for line in lines if line.startswith(prefix)]
    return {name: float(count) for name, count in found}


def test_a_new_cloud_and_a_new_application_are_served_by_the_same_worker(service: Service) -> None:
    service.start()
    workers = service.workers()
    with service.client() as client:
        kept = client.post("/vm", json=WORKER).json()
        service.write_clouds(uniform={}, quebec={}, tango={})
        service.write_application("mme", default=True)
        service.write_application("other", clouds=["tango"])
        reload(service)
        assert [one["name"] for one in client.get("/cloud").json()["clouds"]] == [
            "uniform",
            "quebec",
            "tango",
        ]
        made = client.post("/v1/other/vm", json=WORKER)
        assert made.json()["cloud"] == "tango"
        assert client.get(f"/vm/{kept['id']}").status_code == 200
    assert service.workers() == workers
    assert outcomes(service) == {"done": 1.0}


def test_no_request_is_dropped_while_the_configuration_changes(service: Service) -> None:
    service.write_clouds(uniform={"latency": {"create": 0.05}}, quebec={})
    service.start()
    stop = threading.Event()

    def ask(number: int) -> list[int]:
        answers = []
        with service.client() as client:
            while not stop.is_set():
                response = client.post("/vm", json=WORKER)
                answers += [response.status_code, client.get("/vm?limit=1").status_code]
        return answers

    with ThreadPoolExecutor() as threads:
        asking = [threads.submit(ask, number) for number in range(4)]
        for latency in (0.04, 0.03, 0.02):
            service.write_clouds(uniform={"latency": {"create": latency}}, quebec={})
            reload(service)
        stop.set()
        answers = [status for one in asking for status in one.result()]
    assert set(answers) == {200, 201}
    assert len(answers) > 20
    assert service.stop() == 0


def test_a_wrong_configuration_changes_nothing_and_is_told(service: Service) -> None:
    service.start()
    service.write_application(
        "mme", types={"worker": {}, "other": {"only": ["tango"]}}, deadline=-1
    )
    service.signal(signal.SIGHUP)
    wait_for(lambda: outcomes(service) == {"invalid": 1.0}, "the refusal")
    told = [line for line in service.said().splitlines() if "not reloaded: " in line]
    assert len(told) == 2
    with service.client() as client:
        assert [one["name"] for one in client.get("/type").json()["types"]] == ["worker"]
    service.write_application("mme", types={"worker": {}, "other": {}})
    reload(service)
    with service.client() as client:
        assert len(client.get("/type").json()["types"]) == 2
    assert "Traceback" not in service.said()


def test_a_cloud_that_does_not_start_changes_nothing_and_is_told(service: Service) -> None:
    service.start()
    service.write_clouds(uniform={}, tango={"state": "/proc/nowhere/clouds.db"})
    service.signal(signal.SIGHUP)
    wait_for(lambda: outcomes(service) == {"failed": 1.0}, "the refusal")
    with service.client() as client:
        assert client.post("/vm", json=WORKER).status_code == 201
        assert len(client.get("/cloud").json()["clouds"]) == 2


def test_what_only_a_restart_changes_is_told(service: Service) -> None:
    service.start()
    service.write_service(api={"graceful_timeout": 7}, DEFAULT={"log_level": "DEBUG"})
    reload(service)
    assert "only a restart changes graceful_timeout, log_level" in service.said()


def test_a_worker_that_is_replaced_begins_with_what_was_reloaded(service: Service) -> None:
    service.start()
    service.write_application("mme", types={"worker": {}, "other": {}})
    reload(service)
    service.write_application("mme", types="nonsense")
    service.signal(signal.SIGHUP)
    wait_for(lambda: "not reloaded" in service.said(), "the refusal")
    [worker] = service.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(service.urls()) == 2, "another worker")
    with service.client() as client:
        assert len(client.get("/type").json()["types"]) == 2


def test_a_worker_that_is_not_ready_yet_reloads_when_it_is(service: Service) -> None:
    with closing(service.cloud("uniform")) as cloud:
        cloud.inject("hang", call="list", seconds=1.0)
        service.spawn()
        wait_for(lambda: service.cloud("uniform").calls().get("list"), "the first listing")
        service.write_application("mme", types={"worker": {}, "other": {}})
        reload(service)
    with service.client() as client:
        assert len(client.get("/type").json()["types"]) == 2


def test_a_worker_that_is_replaced_outlives_a_cloud_that_cannot_start(service: Service) -> None:
    service.start()
    service.write_clouds(uniform={}, quebec={}, tango={"state": "/proc/nowhere/clouds.db"})
    service.signal(signal.SIGHUP)
    wait_for(lambda: "tango" in service.said() or "nowhere" in service.said(), "the refusal")
    (worker,) = service.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(service.urls()) == 2, "the next worker")
    assert "going on with the configuration that the service began with" in service.said()
    with service.client() as client:
        assert client.post("/vm", json={"type": "worker"}).status_code == 201
