"""The services of one cloud: what they are, how they are started, when they are ready."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from .databases import Databases
from .installation import HERE, Installation
from .processes import Processes
from .rest import AGENT
from .settings import Settings

_INSIDE = HERE / "inside"
#: A daemon that has not reported for so many seconds is not at work.
_FRESH = 20.0


@dataclass(frozen=True, slots=True)
class Api:
    """A service that is a WSGI application."""

    #: Its type in the catalog.
    kind: str
    #: Where its application is.
    module: str
    #: How many requests it works on at once.
    threads: int
    #: What it answers when it is ready.
    probe: str = "/"


APIS: Mapping[str, Api] = {
    "keystone": Api("identity", "keystone.wsgi.api", 4, "/v3"),
    "placement": Api("placement", "placement.wsgi.api", 4),
    "glance": Api("image", "glance.wsgi.api", 4),
    "neutron": Api("network", "neutron.wsgi.api", 8),
    "nova-api": Api("compute", "nova.wsgi.osapi_compute", 8),
    "cinder-api": Api("block-storage", "cinder.wsgi.api", 4),
}


@dataclass(frozen=True, slots=True)
class Daemon:
    """A service that works for others, through the message queue."""

    #: The program among those of `inside`, with its arguments.
    program: tuple[str, ...]
    #: Its configuration file.
    file: str
    #: Under which names it reports to its database.
    reports: tuple[str, ...]


DAEMONS: Mapping[str, Daemon] = {
    "nova-conductor": Daemon(("nova_daemon.py", "conductor"), "nova.conf", ("nova-conductor",)),
    "nova-scheduler": Daemon(("nova_daemon.py", "scheduler"), "nova.conf", ("nova-scheduler",)),
    "nova-compute": Daemon(("nova_daemon.py", "compute"), "nova-compute.conf", ("nova-compute",)),
    "cinder-volume": Daemon(
        ("cinder_daemon.py",), "cinder.conf", ("cinder-scheduler", "cinder-volume")
    ),
}
ALL_SERVICES = (*APIS, *DAEMONS)


def services_of(settings: Settings) -> list[str]:
    """The services that each cloud of a testbed has."""
    return [name for name in ALL_SERVICES if settings.volumes or not name.startswith("cinder")]


class Services:
    """The services of the clouds. They are named, as processes are, ``CLOUD-SERVICE``."""

    def __init__(
        self,
        settings: Settings,
        processes: Processes,
        installation: Installation,
        databases: Databases,
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._bin = installation.bin
        self._virtualenv = installation.virtualenv
        self._databases = databases

    def start(self, cloud: str, services: Sequence[str]) -> None:
        """Start what is down of these, and return when all of them are ready."""
        for service in services:
            name = f"{cloud}-{service}"
            command = self._api(cloud, service) if service in APIS else self._daemon(cloud, service)
            self._processes.spawn(name, command, self._environment(cloud, service))
        for service in services:
            name = f"{cloud}-{service}"
            if service in APIS:
                self._processes.wait_for(name, partial(self.answers, cloud, service), name)
        self.await_reports(cloud, [service for service in services if service in DAEMONS])

    def await_reports(self, cloud: str, daemons: Sequence[str], since: float = 0) -> None:
        """Return when the daemons have reported to their databases, after they started at least.

        Nova's do so through the message queue and the conductor: these are at work, too.
        """
        names = [f"{cloud}-{daemon}" for daemon in daemons]

        def reported() -> bool:
            reports = self._databases.reports(cloud)
            oldest = max(since, time.time() - _FRESH)
            for daemon, name in zip(daemons, names, strict=True):
                record = self._processes.alive(name)
                seen = min(reports.get(binary, 0) for binary in DAEMONS[daemon].reports)
                if record is None or seen < max(oldest, int(record.began)):
                    return False
            return True

        if daemons:
            self._processes.wait_for(f"{cloud}: the daemons", reported, *names)

    def answers(self, cloud: str, service: str) -> bool:
        """Whether an API answers."""
        api = APIS[service]
        port = self._settings.api_port(cloud, api.kind)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", api.probe, headers={"User-Agent": AGENT})
            return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _api(self, cloud: str, service: str) -> list[object]:
        api = APIS[service]
        command: list[object] = [self._bin / "uwsgi", "--home", self._virtualenv]
        command += ["--http-socket", f"127.0.0.1:{self._settings.api_port(cloud, api.kind)}"]
        command += ["--module", "testbed_api:make()"]
        if service == "cinder-api":  # it has no variable that says where its configuration is
            file = self._settings.state(cloud) / "etc" / "cinder.conf"
            command += ["--pyargv", f"--config-file={file}"]
        command += ["--processes", "1", "--threads", api.threads, "--enable-threads"]
        command += ["--lazy-apps", "--need-app", "--die-on-term"]
        command += ["--buffer-size", "65535", "--listen", "100", "--disable-logging"]
        # It closes the connection after each answer; the client has to know.
        return [*command, "--add-header", "Connection: close"]

    def _daemon(self, cloud: str, service: str) -> list[object]:
        daemon = DAEMONS[service]
        program, *arguments = daemon.program
        file = self._settings.state(cloud) / "etc" / daemon.file
        python = self._bin / "python"
        return [python, _INSIDE / program, *arguments, "--config-file", file]

    def _environment(self, cloud: str, service: str) -> dict[str, str]:
        etc = str(self._settings.state(cloud) / "etc")
        parts = ("KEYSTONE", "PLACEMENT", "GLANCE", "NEUTRON", "NOVA")
        environment = {f"OS_{part}_CONFIG_DIR": etc for part in parts} | {
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf;ml2_conf.ini",
            "PYTHONPATH": str(_INSIDE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TESTBED_FAULTS": str(self._settings.faults(cloud, service)),
        }
        if service in APIS:
            environment |= {
                "TESTBED_APPLICATION": APIS[service].module,
                "TESTBED_CALLS": str(self._settings.calls(cloud, service)),
                "TESTBED_REVOKED": str(self._settings.state(cloud) / "tokens-revoked"),
                "TESTBED_AGENT": AGENT,
            }
        return environment
