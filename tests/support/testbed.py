"""Remote control of the OpenStack testbed: what tests switch on and off, and what they count.

Services are named as ``tools/openstack-testbed status`` does, in one or in two words:
``stopped("uniform", "nova-api")``, ``stopped("rabbitmq")``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from openstack_testbed import faults
from openstack_testbed.faults import Rule
from openstack_testbed.processes import Processes
from openstack_testbed.rest import Rest
from openstack_testbed.services import services_of
from openstack_testbed.settings import resolve, saved
from testbed_calls import Call, read_calls
from testbed_project import Census, Project

PROGRAM = Path(__file__).resolve().parents[2] / "tools" / "openstack-testbed"
_START_TIMEOUT = 240


class Testbed:
    """The testbed of the environment variables ``ISONEPH_TESTBED_*``.

    Everything here is for its one user and that one's project, ``isoneph``.
    """

    __test__ = False  # pytest takes classes of such a name for tests

    def __init__(self) -> None:
        self.settings = resolve({}, os.environ)
        self._processes = Processes(self.settings.directory)

    @property
    def clouds(self) -> tuple[str, ...]:
        """Their names."""
        return self.settings.clouds

    @property
    def clouds_file(self) -> Path:
        """The clouds as their ordinary user sees them."""
        return self.settings.directory / "clouds.yaml"

    @property
    def admin_clouds_file(self) -> Path:
        """The same names, with the administrator's rights."""
        return self.settings.directory / "admin-clouds.yaml"

    @property
    def application_credentials_file(self) -> Path:
        """The same names, with application credentials of the ordinary user."""
        return self.settings.directory / "clouds-appcred.yaml"

    def is_up(self) -> bool:
        """Whether all its processes live."""
        services = services_of(self.settings)
        names = [f"{cloud}-{service}" for cloud in self.clouds for service in services]
        known = bool(saved(self.settings.directory))
        return known and all(map(self._processes.alive, [*names, "rabbitmq", "mariadb"]))

    def up(self) -> None:
        """Bring it up, however long that takes; what is being done goes to standard output."""
        subprocess.run([PROGRAM, "up"], check=True)

    def down(self) -> None:
        """End all its processes; the data stays."""
        subprocess.run([PROGRAM, "down"], check=True)

    def start(self, *name: str) -> None:
        """Start a service, or let a frozen one go on, and return when it is ready."""
        command = [str(PROGRAM), "start", "-".join(name)]
        subprocess.run(command, check=True, timeout=_START_TIMEOUT)

    def kill(self, *name: str) -> None:
        """End a service at once, with SIGKILL."""
        assert self._processes.kill("-".join(name)), f"{name} did not run"

    @contextlib.contextmanager
    def killed(self, *name: str) -> Iterator[None]:
        """A service is down, after SIGKILL."""
        self.kill(*name)
        try:
            yield
        finally:
            self.start(*name)

    @contextlib.contextmanager
    def stopped(self, *name: str) -> Iterator[None]:
        """A service is down, after SIGTERM: its port refuses connections."""
        assert self._processes.end("-".join(name)), f"{name} did not run"
        try:
            yield
        finally:
            self.start(*name)

    @contextlib.contextmanager
    def frozen(self, *name: str) -> Iterator[None]:
        """A service hangs: its port accepts connections, and nothing ever comes."""
        assert self._processes.freeze("-".join(name)), f"{name} did not run"
        try:
            yield
        finally:
            self.start(*name)

    @contextlib.contextmanager
    def faults(self, cloud: str, service: str, *rules: Rule) -> Iterator[None]:
        """A service does to servers or to requests what ``rules`` say, instead of others.

        See `openstack_testbed.faults`; ``nova-compute``'s are those of servers.
        """
        before = faults.read(self.settings, cloud, service)
        faults.write(self.settings, cloud, service, rules)
        try:
            yield
        finally:
            faults.write(self.settings, cloud, service, before)

    @contextlib.contextmanager
    def quota(self, cloud: str, **limits: int) -> Iterator[None]:
        """Limits of the project; -1 is unlimited. Their names: `testbed_project.QUOTAS`."""
        project = Project(self.settings, cloud)
        before = project.limits(limits)
        try:
            project.limit(limits)
            yield
        finally:
            project.limit(before)

    def revoke_tokens(self, cloud: str) -> None:
        """No token that the user has been given so far is good any more, anywhere in the cloud.

        A new password, even when it is the old one, makes Keystone revoke what was issued until
        this second; the services' caches are emptied. Application credentials stay.
        """
        member = Rest.member(self.settings, cloud)
        member.login()
        password = {"user": {"password": self.settings.password}}
        admin = Rest.admin(self.settings, cloud)
        admin.call("identity", "PATCH", f"/users/{member.user_id}", password)
        (self.settings.state(cloud) / "tokens-revoked").write_text(str(time.time()))
        time.sleep(1.0 - time.time() % 1.0)  # tokens of this very second would be revoked too

    def calls(self, cloud: str, service: str) -> list[Call]:
        """The calls that an API has got since `up`, in the order of their answers."""
        return read_calls(self.settings, cloud, service)

    def rest(self, cloud: str) -> Rest:
        """The cloud's APIs, past isoneph, with the user's rights; such calls are not counted."""
        return Rest.member(self.settings, cloud)

    def census(self, cloud: str) -> Census:
        """All that the user has in the cloud."""
        return Project(self.settings, cloud).census()

    def sweep(self, cloud: str, keep: Census | None = None) -> None:
        """Remove all that the user has in the cloud, or all but ``keep``."""
        Project(self.settings, cloud).sweep(keep)
