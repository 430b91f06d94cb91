"""What the testbed can do as a whole: come up, go down, be wiped; its single processes too."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO

from . import infrastructure, preflight, proc
from .configuration import Configuration
from .databases import Databases
from .faults import FAULTY
from .infrastructure import Infrastructure
from .installation import Installation
from .processes import Processes
from .provisioning import Provisioning
from .report import Failure, Progress
from .services import ALL_SERVICES, APIS, DAEMONS, Services, services_of
from .settings import CLOUDS, Settings, saved

_RABBITMQ_GRACE = 40


@dataclass(frozen=True, slots=True)
class State:
    """What there is to say of one process."""

    name: str
    pid: int | None
    #: Bytes; pages shared with others count in part.
    memory: int
    frozen: bool


class Testbed:
    """A testbed, up or down."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.processes = Processes(settings.directory)
        self.say = progress.say
        self._progress = progress
        self._installation = Installation(settings, self.processes, progress)
        self._infrastructure = Infrastructure(settings, self.processes)
        self._configuration = Configuration(settings, self._installation, self._infrastructure)
        parts = (settings, self.processes, self._installation)
        self._databases = Databases(*parts, self._infrastructure)
        self._services = Services(*parts, self._databases)

    def install(self) -> None:
        """Install what is missing."""
        with self._alone():
            self._installation.install()

    def up(self) -> None:
        """Install, configure and start what is not there, and return when all of it is ready.

        What is frozen goes on; faults and quotas that somebody has set are taken back.

        Raises:
            Failure: Something is in the way; what this call started is ended again.
            Stopped: The same when `Processes.stop_working` was called.
        """
        with self._alone(), self._all_or_nothing():
            self._up()

    def down(self) -> int:
        """End every process of the testbed; how many there were. The data stays."""
        with self._alone():
            return self._end(self.processes.recorded())

    def wipe(self) -> None:
        """`down`, and remove the clouds' data. What is installed stays."""
        with self._alone():
            self._wipe()

    def start(self, names: Iterable[str]) -> None:
        """Start single processes, or let frozen ones go on, and return when all is ready.

        Raises:
            Failure: As `up` does.
            Stopped: As `up` does.
        """
        if not (self.settings.directory / "settings.json").exists():
            raise Failure("the clouds have never been up: `up` first")
        names = self._known(names)
        with self._alone(), self._all_or_nothing():
            if not set(names).isdisjoint(infrastructure.NAMES):
                self._start_infrastructure()
            for cloud in CLOUDS:
                services = [s for s in ALL_SERVICES if f"{cloud}-{s}" in names]
                self._services.start(cloud, services)
                for service in services:
                    self.say(f"{cloud}-{service}: ready")

    def stop(self, names: Iterable[str], how: str) -> list[tuple[str, bool]]:
        """End single processes (``how``: end, kill or freeze); of each, whether it lived."""
        act = getattr(self.processes, how)
        return [(name, act(name)) for name in self._known(names)]

    def status(self) -> list[State]:
        """All processes that there should be, and what is left of others."""
        services = services_of(self.settings)
        wanted = [f"{cloud}-{service}" for cloud in self.settings.clouds for service in services]
        wanted += infrastructure.NAMES
        wanted += [name for name in self.processes.recorded() if name not in wanted]
        return [self._state(name) for name in wanted]

    def silent(self, cloud: str) -> list[str]:
        """The APIs of a cloud that do not answer."""
        apis = [service for service in services_of(self.settings) if service in APIS]
        with ThreadPoolExecutor(len(apis)) as pool:
            answers = list(pool.map(partial(self._services.answers, cloud), apis))
        return [service for service, answered in zip(apis, answers, strict=True) if not answered]

    def _up(self) -> None:
        settings, say = self.settings, self.say
        self._installation.install()
        before = saved(settings.directory).get("versions", self._installation.digest)
        if before != self._installation.digest:
            say("the clouds' data is of other versions of OpenStack: starting from nothing")
            self._wipe()
        preflight.require_ports(settings, self.processes)
        preflight.warn_of_memory(settings, self.processes.recorded(), self._progress)
        settings.save(versions=self._installation.digest)
        self._infrastructure.start()
        say("MariaDB and RabbitMQ: ready")
        self._configuration.write_clouds()
        with ThreadPoolExecutor(len(settings.clouds)) as pool:
            work = [pool.submit(self._up_cloud, cloud) for cloud in settings.clouds]
            try:
                for one in work:
                    one.result()
            except BaseException:
                self.processes.stop_working()
                raise

    def _up_cloud(self, cloud: str) -> None:
        say = self.say
        provisioning = Provisioning(self.settings, cloud)
        self._configuration.write(cloud)
        self._start_afresh(cloud)
        self._databases.fill(cloud)
        say(f"{cloud}: databases are filled")
        self._services.start(cloud, ["keystone"])
        # The daemons log in as soon as they start, so their users come first.
        provisioning.identities()
        say(f"{cloud}: Keystone is ready")
        self._services.start(cloud, services_of(self.settings))
        self._databases.map_host(cloud)
        provisioning.resources()
        provisioning.reset_quotas()
        say(f"{cloud}: all services are ready")

    def _start_afresh(self, cloud: str) -> None:
        """No faults; and for services that start now no calls of their former life."""
        for service in FAULTY:
            self.settings.faults(cloud, service).unlink(missing_ok=True)
        for service in APIS:
            if not self.processes.alive(f"{cloud}-{service}"):
                self.settings.calls(cloud, service).unlink(missing_ok=True)

    def _start_infrastructure(self) -> None:
        """Start it, and return when the services that live are at work with it again."""
        began = time.time()
        self._infrastructure.start()
        self.say("MariaDB and RabbitMQ: ready")
        for cloud in CLOUDS:
            services = services_of(self.settings)
            if all(self.processes.alive(f"{cloud}-{service}") for service in services):
                daemons = [service for service in services if service in DAEMONS]
                self._services.await_reports(cloud, daemons, since=began)
                self.say(f"{cloud}: the daemons are at work again")

    def _wipe(self) -> None:
        self._end(self.processes.recorded())
        directory = self.settings.directory
        for name in (*CLOUDS, "shared", "run", "log"):
            shutil.rmtree(directory / name, ignore_errors=True)
        for name in ("clouds.yaml", "admin-clouds.yaml", "clouds-appcred.yaml"):
            (directory / name).unlink(missing_ok=True)
        for name in ("settings.json", "password"):
            (directory / name).unlink(missing_ok=True)

    def _end(self, names: Iterable[str]) -> int:
        """End processes, the services before what they need."""
        names = list(names)
        services = [name for name in names if name not in infrastructure.NAMES]
        with ThreadPoolExecutor(8) as pool:
            ended = list(pool.map(self.processes.end, services))
        shared = [name for name in infrastructure.NAMES if name in names]
        ended += [self.processes.end(name, _RABBITMQ_GRACE) for name in shared]
        return sum(ended)

    def _state(self, name: str) -> State:
        record = self.processes.alive(name)
        if record is None:
            return State(name, None, 0, frozen=False)
        return State(name, record.pid, proc.memory(record.pid), proc.frozen(record.pid))

    def _known(self, names: Iterable[str]) -> list[str]:
        services = services_of(self.settings)
        known = [f"{cloud}-{service}" for cloud in CLOUDS for service in services]
        known += infrastructure.NAMES
        names = list(names)
        for name in names:
            if name not in known:
                raise Failure(f"process {name}: expected one of {', '.join(known)}")
        return names

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """End what the block has started when it fails."""
        try:
            yield
        except BaseException:
            self._end(self.processes.started)
            raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold a lock, so that two of these programs never work on one testbed at once."""
        directory = self.settings.directory
        preflight.require_own(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("w") as lock:
            if not _locked(lock):
                self.say(f"waiting for another openstack-testbed at work on {directory}")
                self.processes.wait_for("the other one", lambda: _locked(lock), seconds=1800)
            yield


def _locked(file: IO[str]) -> bool:
    """Whether nobody else holds the lock, which is then ours until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
