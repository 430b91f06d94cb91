"""One application over the testbed's two OpenStack clouds: its configuration, the real service
that runs it, what clients ask of it, and what the clouds themselves hold of it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import yaml

from isoneph.core import identity
from services import Service, wait_for
from testbed import Testbed
from testbed_calls import Call
from testbed_project import Project

T = TypeVar("T")

UNIFORM, QUEBEC = "uniform", "quebec"
CLOUDS = (UNIFORM, QUEBEC)
#: Seconds for what takes a few on a machine that is not busy.
PATIENCE = 120.0
#: How isoneph treats a cloud in these tests: nothing is slow but what a test makes so.
TREATMENT: Mapping[str, Any] = {"timeout": 60, "slow_create": 60, "breaker_pause": 2}
#: Seconds between the two sightings after which the engine removes something.
GRACE = 4.0
EXISTING = {200, 201}


class World:
    """An application with a name of its own, so that tests never see one another's VMs.

    ``network`` is one that is there on both clouds.
    """

    def __init__(self, testbed: Testbed, directory: Path, network: str) -> None:
        self.testbed = testbed
        self.application = f"scenario-{secrets.token_hex(3)}"
        self.worker: Mapping[str, Any] = {"flavor": "tiny", "image": "tiny", "networks": "none"}
        #: The same with a port, which costs the testbed as much again.
        self.connected: Mapping[str, Any] = {**self.worker, "networks": [network]}
        self.service = Service(directory)
        (directory / "applications" / "mme.yaml").unlink()
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.service.write_service(api={"port": port}, engine={"interval": 2, "lease": 6})
        self.write_clouds()
        self.write_application()
        self._began = time.time()
        self._lives = 0
        self._users = {cloud: testbed.rest(cloud) for cloud in CLOUDS}
        self._projects = {cloud: Project(testbed.settings, cloud) for cloud in CLOUDS}
        self._held = {cloud: project.census().ids() for cloud, project in self._projects.items()}

    def write_clouds(self, **changes: Mapping[str, Any]) -> None:
        """Write ``clouds.yaml``: the testbed's, with changes by cloud; those of ``isoneph`` go
        into the usual treatment."""
        entries = yaml.safe_load(self.testbed.clouds_file.read_text())["clouds"]
        written = {}
        for name in CLOUDS:
            change = dict(changes.get(name, {}))
            treatment = {**TREATMENT, **change.pop("isoneph", {})}
            entry = {**entries[name], "driver": "openstack", "isoneph": treatment}
            written[name] = _merged(entry, change)
        text = yaml.safe_dump({"clouds": written}, sort_keys=False)
        (self.service.directory / "clouds.yaml").write_text(text)

    def write_application(self, **content: Any) -> None:
        """Write the application: of a type ``worker``, the same on both clouds, unless told."""
        healing = {"grace": GRACE, "boot_timeout": PATIENCE, **content.pop("healing", {})}
        types = {"worker": {"options": self.worker}, **content.pop("types", {})}
        self.service.write_application(self.application, types=types, healing=healing, **content)

    def start(self) -> None:
        """Start the service, and return when it serves; it writes a log of its own."""
        self._lives += 1
        self.service.log = self.service.directory / f"service-{self._lives}.log"
        self.service.spawn()
        wait_for(self._serves, "the service", PATIENCE)

    def start_from_nothing(self) -> None:
        """Kill the service, master and worker at once, and start it anew; it has no memory."""
        workers = psutil.Process(self.service.pid).children()
        os.killpg(self.service.pid, signal.SIGKILL)
        self.service.wait()
        psutil.wait_procs(workers, timeout=PATIENCE)  # until then the port is taken
        self.start()

    def said(self) -> str:
        """All that the service wrote in its lives."""
        logs = sorted(self.service.directory.glob("service-*.log"))
        return "".join(log.read_text() for log in logs)

    def client(self) -> httpx.Client:
        """A client of the service, as it was configured to listen; to be closed."""
        # Without TLS there is nothing to verify, and reading all certificates takes long.
        return httpx.Client(base_url=self.url, timeout=PATIENCE, verify=False)  # noqa: S501 (no TLS)

    def get(self, path: str, **parameters: str) -> Any:
        """The answer's JSON."""
        with self.client() as client:
            return client.get(path, params=parameters).raise_for_status().json()

    def post(
        self, body: Mapping[str, Any] | None = None, key: str | None = None, **parameters: str
    ) -> httpx.Response:
        """Ask for a VM, once."""
        headers = {} if key is None else {"Idempotency-Key": key}
        with self.client() as client:
            asked = {"type": "worker"} if body is None else body
            return client.post("/vm", json=asked, headers=headers, params=parameters)

    def create(self, **body: Any) -> Mapping[str, Any]:
        """A VM that is made at once."""
        answer = self.post({"type": "worker", **body})
        assert answer.status_code in EXISTING, answer.text
        vm: Mapping[str, Any] = answer.json()
        return vm

    def burst(self, count: int, **body: Any) -> Sequence[Mapping[str, Any]]:
        """So many VMs, each asked for by a client of its own, all at once."""
        return at_once(lambda _n: self.create(**body), range(count))

    def ask_until_answered(
        self, key: str, body: Mapping[str, Any] | None = None, patience: float = PATIENCE
    ) -> str:
        """The id of the VM of a client that must have it, and asks with one key until it does."""

        def ask() -> str | None:
            with contextlib.suppress(httpx.TransportError):
                answer = self.post(body, key)
                if answer.status_code in EXISTING:
                    return str(answer.json()["id"])
                assert answer.status_code == 503, answer.text
            time.sleep(0.2)
            return None

        return wait_for(ask, f"an answer to {key}", patience)

    def delete_until_answered(self, vm_id: str) -> None:
        """Have a VM deleted, by a client that asks until it is told so."""

        def ask() -> bool:
            with contextlib.suppress(httpx.TransportError), self.client() as client:
                answer = client.delete(f"/vm/{vm_id}")
                if answer.is_success:
                    return True
                assert answer.status_code in {502, 503, 504}, answer.text
            time.sleep(0.2)
            return False

        wait_for(ask, f"the removal of {vm_id}", PATIENCE)

    def command(self, *words: str) -> str:
        """What the ``isoneph`` command prints, on both outputs."""
        program = Path(sys.executable).parent / "isoneph"
        done = subprocess.run(
            [program, *words],
            env={**os.environ, "ISONEPH_URL": self.url, "ISONEPH_APPLICATION": self.application},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def cloud(self, name: str) -> Mapping[str, Any]:
        """What the service says of a cloud."""
        told: Mapping[str, Any] = self.get(f"/cloud/{name}")
        return told

    def next_cloud(self) -> str:
        """Where the next VM would go; nothing is asked of the clouds for it."""
        with self.client() as client:
            answer = client.post("/placement", json={"type": "worker"}).raise_for_status()
        return str(answer.json()["ranking"][0]["candidate"])

    def figure(self, name: str, **labels: str) -> float:
        """The sum of a figure of ``/metrics`` over all labels but those given."""
        with self.client() as client:
            text = client.get("/metrics").text
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(rf"isoneph_{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(
                f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()
            ):
                total += float(found[2])
        return total

    def calls(self, cloud: str, method: str = "", path: str = "") -> Sequence[Call]:
        """isoneph's calls of Nova's API since the test began, the refused ones too."""
        return [
            call
            for call in self.testbed.calls(cloud, "nova-api")
            if call["at"] >= self._began
            and call["agent"].startswith("isoneph/")
            and method in ("", call["method"])
            and re.search(path, call["path"])
        ]

    def servers(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The application's servers by cloud, as Nova itself tells."""
        return {
            cloud: [
                server
                for server in user.call("compute", "GET", "/servers/detail")["servers"]
                if server["metadata"].get(identity.TAG_APPLICATION) == self.application
            ]
            for cloud, user in self._users.items()
        }

    def count(self) -> Mapping[str, int]:
        """How many servers of the application each cloud has."""
        return {cloud: len(servers) for cloud, servers in self.servers().items()}

    def places(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """For each VM id the clouds with a server that carries it, and the server's status."""
        found: dict[str, list[tuple[str, str]]] = {}
        for cloud, servers in self.servers().items():
            for server in servers:
                place = (cloud, server["status"])
                found.setdefault(server["metadata"][identity.TAG_ID], []).append(place)
        return found

    def wait_until_exactly(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Wait until each VM is there once and ACTIVE, and no other of the application; the
        cloud of each."""
        wanted = set(ids)
        seen: Mapping[str, Sequence[tuple[str, str]]] = {}

        def look() -> bool:
            nonlocal seen
            if not self._shows_active(wanted):  # asking isoneph costs next to nothing
                return False
            seen = self.places()
            alone = all(len(places) == 1 for places in seen.values())
            right = alone and seen.keys() == wanted and _all_active(seen.values())
            time.sleep(0 if right else 1)
            return right

        try:
            wait_for(look, "exactly one server for each id", PATIENCE)
        except AssertionError as error:
            strange = {
                vm_id: places
                for vm_id, places in seen.items()
                if vm_id not in wanted or places != [(places[0][0], "ACTIVE")]
            }
            missing = wanted - seen.keys()
            raise AssertionError(f"{error}; missing: {missing}; not right: {strange}") from None
        return {vm_id: places[0][0] for vm_id, places in seen.items()}

    def come_to_rest(self) -> None:
        """Have all VMs deleted, and wait until the clouds hold again what they held before the
        test, and nothing of the application."""
        self.delete_all()
        deadline = time.monotonic() + PATIENCE
        for cloud, user in self._users.items():
            while user.call("compute", "GET", "/servers")["servers"] and _early(deadline):
                time.sleep(0.3)  # a census costs the cloud much more than this
            while (left := self._difference(cloud)) and _early(deadline):
                time.sleep(1)
            assert not left, f"{cloud} is not as it was: {left}"

    def delete_all(self) -> None:
        """Have all VMs deleted that the service knows."""
        at_once(self.delete_until_answered, [vm["id"] for vm in self.get("/vm")["vms"]])

    def purge(self) -> None:
        """Remove what a failed test left, without isoneph."""
        for cloud, servers in self.servers().items():
            for server in servers:
                self._users[cloud].call("compute", "DELETE", f"/servers/{server['id']}")

    def _shows_active(self, wanted: set[str]) -> bool:
        """Whether isoneph shows these VMs, all of them ACTIVE, and no others."""
        time.sleep(0.2)
        shown = {vm["id"]: vm["state"] for vm in self.get("/vm")["vms"]}
        return shown == dict.fromkeys(wanted, "ACTIVE")

    def _difference(self, cloud: str) -> Mapping[str, frozenset[str]]:
        """What has come to the cloud, or gone from it, since the test began."""
        held = self._held[cloud]
        now = self._projects[cloud].census().ids()
        return {kind: ids ^ held[kind] for kind, ids in now.items() if ids != held[kind]}

    def _serves(self) -> bool:
        assert self.service.process is not None
        assert self.service.process.poll() is None, self.said()
        with contextlib.suppress(httpx.TransportError), self.client() as client:
            return client.get("/health/live").is_success
        return False


@contextlib.contextmanager
def world_on(testbed: Testbed, directory: Path, network: str) -> Iterator[World]:
    """A world that must have left nothing on the clouds when its test is over."""
    world = World(testbed, directory, network)
    try:
        yield world
        world.come_to_rest()
        assert world.service.stop() == 0
        said = world.said()
        assert "Traceback" not in said, said
    finally:
        world.service.kill()
        world.purge()


def at_once(do: Callable[[Any], T], each: Iterable[Any]) -> Sequence[T]:
    """What ``do`` returns for each, all done at the same time; the first error is raised."""
    wanted = list(each)
    with ThreadPoolExecutor(max(len(wanted), 1)) as pool:
        return list(pool.map(do, wanted))


def clouds_of(vms: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
    """How many VMs of the service's answers are on each cloud."""
    return Counter(vm["cloud"] for vm in vms)


def _early(deadline: float) -> bool:
    return time.monotonic() < deadline


def _all_active(places: Iterable[Sequence[tuple[str, str]]]) -> bool:
    return all(status == "ACTIVE" for found in places for _cloud, status in found)


def _merged(value: Any, change: Any) -> Any:
    if not (isinstance(value, dict) and isinstance(change, Mapping)):
        return change
    return {**value, **{key: _merged(value.get(key), item) for key, item in change.items()}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
