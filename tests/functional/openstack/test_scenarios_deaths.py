"""isoneph itself is killed at random moments under load and begins anew, each time with nothing
but its configuration, over two real clouds."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from isoneph.core import identity
from openstack_world import CLOUDS, World
from testbed import Testbed

KEYS = [f"key-{n}" for n in range(24)]
CLIENTS = 6
TYPES = ("worker", "gateway", "database")
#: Every such client has its VM deleted again.
DELETED = 4
SEED = 2015
KILLS = 6


@pytest.fixture
def routed(testbed: Testbed, network: str) -> Iterator[str]:
    """The network, with a way to the public one, so that its VMs can have floating IPs."""
    made = []
    for cloud in CLOUDS:
        rest = testbed.rest(cloud)
        own, public = (
            rest.call("network", "GET", f"/v2.0/networks?name={name}")["networks"][0]
            for name in (network, "public")
        )
        router = {"name": network, "external_gateway_info": {"network_id": public["id"]}}
        answer = rest.call("network", "POST", "/v2.0/routers", {"router": router})
        path = f"/v2.0/routers/{answer['router']['id']}"
        interface = {"subnet_id": own["subnets"][0]}
        rest.call("network", "PUT", f"{path}/add_router_interface", interface)
        made.append((rest, path, interface))
    yield network
    for rest, path, interface in made:
        rest.call("network", "PUT", f"{path}/remove_router_interface", interface)
        rest.call("network", "DELETE", path)


def kill_now_and_then(world: World, answered: threading.Event) -> int:
    """Each life ends at a random moment after it began to serve, as long as clients wait; the
    last one may go on. How many have ended."""
    rng = random.Random(SEED)
    kills = 0
    while kills < KILLS and not answered.wait(rng.uniform(0.5, 4.0)):
        world.start_from_nothing()
        kills += 1
    return kills


@pytest.mark.timeout(400)
def test_each_key_has_one_vm_and_nothing_is_orphaned_though_isoneph_is_killed_all_the_time(
    routed: str, world: World
) -> None:
    gateway = {
        **world.connected,
        "floating_network": "public",
        "server_group": {"policy": "soft-anti-affinity"},
    }
    database = {**world.worker, "boot_volume": {"size_gb": 1}}
    types = {"gateway": {"options": gateway}, "database": {"options": database}}
    world.write_application(types=types, healing={"attempts": 20})
    world.start()
    answered = threading.Event()
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        deaths = pool.submit(kill_now_and_then, world, answered)
        try:
            lives = pool.map(lambda number: live(world, number), range(len(KEYS)))
            kept = [vm_id for vm_id in lives if vm_id is not None]
        finally:
            answered.set()
    assert deaths.result() >= KILLS / 2
    assert kept == [
        identity.id_of_key(world.application, key, 0) for n, key in enumerate(KEYS) if n % DELETED
    ]
    world.wait_until_exactly(kept)
    assert all(world.cloud(cloud)["healthy"] for cloud in CLOUDS)
    assert [world.ask_until_answered(KEYS[n], body(n)) for n in (1, 2)] == kept[:2]


def body(number: int) -> dict[str, str]:
    return {"type": TYPES[number % len(TYPES)]}


def live(world: World, number: int) -> str | None:
    """What one client does: it has its VM made, and perhaps deleted again, asking until each is
    answered; the id of the VM that it keeps."""
    vm_id = world.ask_until_answered(KEYS[number], body(number))
    if number % DELETED:
        return vm_id
    world.delete_until_answered(vm_id)
    return None
