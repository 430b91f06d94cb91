"""What the OpenStack driver costs beside openstacksdk alone, on a real cloud.

``measure`` makes a network and VMs on a cloud of a ``clouds.yaml`` and removes them again. Both
sides ask for the same servers, and take turns, so that neither has the cloud's better minutes.
"""

from __future__ import annotations

import secrets
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from openstack.config import OpenStackConfig
from openstack.connection import Connection
from voluptuous import Schema

from isoneph.core.clock import SystemClock
from isoneph.core.model import Vm, VmRequest, VmState, VmType
from isoneph.core.testing import make_environment
from isoneph.core.testing.environment import make_request
from isoneph.plugins.clouds.openstack import OpenstackCloud

LISTED = 200
CREATES = 20
LISTINGS, SLOW_LISTINGS = 15, 3
LIVES = 5
PARALLEL = 8
PATIENCE = 900.0
_POLL = 1.0


class Site:
    """One cloud, by the driver and by openstacksdk, with a network of its own."""

    def __init__(self, clouds: Path, cloud: str) -> None:
        self.application = f"benchmark-{secrets.token_hex(3)}"
        access = yaml.safe_load(clouds.read_text())["clouds"][cloud]
        fast = {**access, "calls_per_second": 1000, "burst": 1000}
        options = Schema(OpenstackCloud.schema)(fast)
        environment = make_environment(cloud, clock=SystemClock(), timeout=120.0)
        self.driver = OpenstackCloud(options, environment)
        config = OpenStackConfig(config_files=[str(clouds)])
        self.sdk = Connection(config=config.get_one(cloud))
        self.network = ""

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """With the network there; in the end without it, and without any of our servers."""
        made = self.sdk.network.create_network(name=self.application)
        try:
            self.network = made.id
            self.sdk.network.create_subnet(
                network_id=made.id, ip_version=4, cidr="10.200.0.0/22", name=self.application
            )
            yield
        finally:
            self.remove_all()
            self.sdk.network.delete_network(made.id)
            self.driver.close()
            self.sdk.close()

    def request(self) -> VmRequest:
        """A request for a VM, as the core makes it."""
        said = {"flavor": "tiny", "image": "tiny", "networks": [self.network]}
        options = Schema(OpenstackCloud.type_schema)(said)
        return make_request(self.application, VmType(name="worker", options=options))

    def create_by_sdk(self, body: Mapping[str, Any]) -> str:
        """The same server, asked for with openstacksdk alone."""
        said = dict(body["server"])
        said["flavor_id"], said["image_id"] = said.pop("flavorRef"), said.pop("imageRef")
        return str(self.sdk.compute.create_server(**said).id)

    def fill(self, count: int) -> None:
        """Have so many VMs there, none of them building."""
        missing = count - len(self.driver.list_vms(self.application))
        with ThreadPoolExecutor(PARALLEL) as threads:
            list(threads.map(lambda _: self.driver.create_vm(self.request()), range(missing)))
        self._wait(lambda vms: all(vm.state is not VmState.BUILDING for vm in vms))

    def remove_all(self) -> None:
        """Have none of them there any more."""
        with ThreadPoolExecutor(PARALLEL) as threads:
            list(threads.map(self.driver.delete_vm, self.driver.list_vms(self.application)))
        self._wait(lambda vms: not vms)

    def _wait(self, done: Callable[[Sequence[Vm]], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done(self.driver.list_vms(self.application)):
            if time.monotonic() > end:
                raise TimeoutError(f"{self.application}: the cloud takes over {PATIENCE:g} s")
            time.sleep(_POLL)


@contextmanager
def _calls_of(driver: OpenstackCloud) -> Iterator[list[tuple[str, str, Any]]]:
    """What the driver asks of the cloud meanwhile: method, path and body of each call."""
    seen: list[tuple[str, str, Any]] = []
    call = driver.api.call

    def noting(method: str, service: str, path: str, **arguments: Any) -> Any:
        seen.append((method, path, arguments.get("body")))
        return call(method, service, path, **arguments)

    driver.api.call = noting  # type: ignore[method-assign]  # to look over its shoulder
    try:
        yield seen
    finally:
        driver.api.call = call  # type: ignore[method-assign]  # as it was


class Times:
    """What some calls took: ``seconds`` until they returned, ``busy`` of those our own work."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._busy: list[float] = []

    def take(self, function: Callable[[], object]) -> None:
        """Call once and note it."""
        begun, worked = time.perf_counter(), time.thread_time()
        function()
        self._seconds.append(time.perf_counter() - begun)
        self._busy.append(time.thread_time() - worked)

    def figures(self, name: str) -> dict[str, float]:
        """The medians."""
        return {
            f"{name}_seconds": statistics.median(self._seconds),
            f"{name}_busy_seconds": statistics.median(self._busy),
        }


def _measure_creates(site: Site) -> dict[str, float]:
    """One create at a time, by both in turn."""
    with _calls_of(site.driver) as seen:
        site.driver.create_vm(site.request())  # names and tokens are known from now on
    (body,) = (body for method, path, body in seen if (method, path) == ("POST", "/servers"))
    site.create_by_sdk(body)
    ours, theirs = Times(), Times()
    for _ in range(CREATES):
        ours.take(partial(site.driver.create_vm, site.request()))
        theirs.take(partial(site.create_by_sdk, body))
    site.remove_all()
    return {**ours.figures("create_driver"), **theirs.figures("create_sdk")}


def _measure_lives(site: Site) -> dict[str, float]:
    """Calls for each VM from its create to its end, other than the listings all share."""
    with _calls_of(site.driver) as seen:
        for _ in range(LIVES):
            site.driver.create_vm(site.request())
        site.remove_all()
    counts = Counter((method, path.split("/")[1]) for method, path, _ in seen)
    del counts["GET", "servers"]
    other = counts.total() - counts["POST", "servers"] - counts["DELETE", "servers"]
    return {
        "creates_per_vm": counts["POST", "servers"] / LIVES,
        "deletes_per_vm": counts["DELETE", "servers"] / LIVES,
        "other_calls_per_vm": other / LIVES,
    }


def _measure_listings(site: Site) -> dict[str, float]:
    """The driver's listing, the SDK's of the compute service, and that of its cloud layer."""
    site.fill(LISTED)
    ours, theirs, layer = Times(), Times(), Times()
    for turn in range(LISTINGS):
        ours.take(partial(site.driver.list_vms, site.application))
        theirs.take(lambda: list(site.sdk.compute.servers()))
        if turn < SLOW_LISTINGS:
            layer.take(site.sdk.list_servers)
    return {
        "listed_vms": float(len(site.driver.list_vms(site.application))),
        **ours.figures("list_driver"),
        **theirs.figures("list_sdk"),
        **layer.figures("list_sdk_cloud_layer"),
    }


def measure(clouds: Path, cloud: str) -> dict[str, float]:
    """All figures by name; times are medians in seconds."""
    site = Site(clouds, cloud)
    with site.prepared():
        return {**_measure_creates(site), **_measure_lives(site), **_measure_listings(site)}


def main() -> None:
    """Print the figures of a cloud: arguments are a ``clouds.yaml`` and a name in it."""
    for name, figure in measure(Path(sys.argv[1]), sys.argv[2]).items():
        print(f"{name:36} {figure:.4f}")


if __name__ == "__main__":
    main()
