"""The testbed itself: two whole clouds, and faults that do what they say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openstack
import pytest
from keystoneauth1 import exceptions as keystone_errors
from openstack import exceptions
from openstack.connection import Connection

from testbed import Testbed
from testbed_project import Census

# openstacksdk calls its own deprecated methods.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

UNIFORM, QUEBEC = "uniform", "quebec"
PATIENCE = 60.0
#: With it a server needs no network, and boots sooner.
MICROVERSION = "2.90"


def connect(file: Path, cloud: str) -> Connection:
    loader = openstack.config.OpenStackConfig(
        config_files=[str(file)], app_name="testbed-test", app_version="1"
    )
    connection = Connection(config=loader.get_one(cloud, api_timeout=30))
    connection.compute.default_microversion = MICROVERSION
    return connection


@pytest.fixture
def cloud(openstack_clouds: Path) -> Iterator[Connection]:
    """One of the clouds, as its user has it; by then the connection has a token."""
    with contextlib.closing(connect(openstack_clouds, UNIFORM)) as connection:
        connection.authorize()
        yield connection


@pytest.fixture
def before(testbed: Testbed) -> Iterator[Census]:
    """What there is before the test, and will be after it."""
    census = testbed.census(UNIFORM)
    yield census
    testbed.sweep(UNIFORM, keep=census)


def request_for(cloud: Connection, name: str, networks: Any = "none") -> dict[str, Any]:
    return {
        "name": name,
        "imageRef": cloud.image.find_image("tiny", ignore_missing=False).id,
        "flavorRef": cloud.compute.find_flavor("tiny", ignore_missing=False).id,
        "networks": networks,
    }


def ask_for_server(cloud: Connection, name: str, networks: Any = "none", **how: Any) -> Any:
    """The answer to a request for a server, sent once."""
    body = {"server": request_for(cloud, name, networks)}
    return cloud.compute.post("/servers", json=body, connect_retries=0, **how)


def boot(cloud: Connection, name: str, networks: Any = "none") -> str:
    """The id of a server that has been accepted."""
    answer = ask_for_server(cloud, name, networks)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["server"]["id"])


def settled(cloud: Connection, server: str) -> Any:
    """A server that is no longer being built."""
    return wait_for(
        lambda: found if (found := look_at(cloud, server))["status"] != "BUILD" else None
    )


def look_at(cloud: Connection, server: str) -> Any:
    return cloud.compute.get(f"/servers/{server}").json()["server"]


def wait_for(look: Callable[[], Any], patience: float = PATIENCE) -> Any:
    until = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < until, "nothing came of it"
        time.sleep(0.1)
    return found


def names(cloud: Connection) -> list[str]:
    return [server["name"] for server in cloud.compute.get("/servers").json()["servers"]]


@pytest.mark.parametrize("name", [UNIFORM, QUEBEC])
def test_both_clouds_know_their_user_and_their_administrator(testbed: Testbed, name: str) -> None:
    files = (testbed.clouds_file, testbed.application_credentials_file, testbed.admin_clouds_file)
    for file in files:
        assert file.stat().st_mode & 0o077 == 0
        with contextlib.closing(connect(file, name)) as cloud:
            assert {flavor.name for flavor in cloud.compute.flavors()} >= {"tiny", "impossible"}
            assert cloud.image.find_image("tiny", ignore_missing=False).visibility == "public"
            assert cloud.network.find_network("public", ignore_missing=False).is_router_external
            of_all = {"all_tenants": "1"}
            seen = cloud.compute.get("/servers", params=of_all).status_code
            assert seen == (200 if file == testbed.admin_clouds_file else 403)


def test_a_server_is_reached_by_a_floating_ip(
    cloud: Connection, before: Census, testbed: Testbed
) -> None:
    public = cloud.network.find_network("public", ignore_missing=False)
    network = cloud.network.create_network(name="inside")
    subnet = cloud.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.77.0.0/24")
    router = cloud.network.create_router(external_gateway_info={"network_id": public.id})
    cloud.network.add_interface_to_router(router, subnet=subnet.id)
    server = boot(cloud, "reached", [{"uuid": network.id}])
    assert settled(cloud, server)["status"] == "ACTIVE"
    port = next(cloud.network.ports(device_id=server))
    assert port.status == "ACTIVE"
    outer = cloud.network.create_ip(floating_network_id=public.id, port_id=port.id)
    assert outer.floating_ip_address.startswith("203.0.113.")

    def addresses() -> dict[str, str]:
        shown = look_at(cloud, server)["addresses"].get("inside", [])
        return {address["OS-EXT-IPS:type"]: address["addr"] for address in shown}

    wait_for(lambda: addresses().get("floating") == outer.floating_ip_address)
    assert addresses()["fixed"] == port.fixed_ips[0]["ip_address"]
    assert cloud.network.get_ip(outer).status == "ACTIVE"
    testbed.sweep(UNIFORM, keep=before)
    assert testbed.census(UNIFORM).ids() == before.ids()


def test_boots_and_removals_are_slow_or_fail_as_told(
    testbed: Testbed, cloud: Connection, before: Census
) -> None:
    rules: list[dict[str, Any]] = [
        {"match": "slow", "spawn_delay": 3},
        {"match": "fails", "spawn_error": "no KVM"},
        {"match": "aborts", "spawn_abort": "no room"},
        {"match": "stays", "destroy_error": "stuck"},
    ]
    with testbed.faults(UNIFORM, "nova-compute", *rules):
        began = time.monotonic()
        made = {name: boot(cloud, name) for name in ("slow", "fails", "aborts", "stays")}
        ended = {name: settled(cloud, server) for name, server in made.items() if name != "slow"}
        assert {name: server["status"] for name, server in ended.items()} == {
            "fails": "ERROR",
            "aborts": "ERROR",
            "stays": "ACTIVE",
        }
        assert "no room" in ended["aborts"]["fault"]["message"]
        assert settled(cloud, made["slow"])["status"] == "ACTIVE"
        assert time.monotonic() - began > 3
        cloud.compute.delete(f"/servers/{made['stays']}")
        wait_for(lambda: look_at(cloud, made["stays"])["status"] == "ERROR")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_dead_service_refuses_and_comes_back(
    testbed: Testbed, cloud: Connection, openstack_clouds: Path, how: str
) -> None:
    with getattr(testbed, how)(UNIFORM, "nova-api"):
        with pytest.raises(keystone_errors.ConnectFailure):
            names(cloud)
        with contextlib.closing(connect(openstack_clouds, QUEBEC)) as other:
            names(other)
    names(cloud)


def test_a_frozen_service_says_nothing(testbed: Testbed, cloud: Connection) -> None:
    with testbed.frozen(UNIFORM, "nova-api"), pytest.raises(keystone_errors.ConnectTimeout):
        cloud.compute.get("/servers", timeout=1, connect_retries=0)
    names(cloud)


def test_a_frozen_conductor_holds_up_boots_until_it_goes_on(
    testbed: Testbed, cloud: Connection, before: Census
) -> None:
    with testbed.frozen(UNIFORM, "nova-conductor"):
        server = boot(cloud, "held-up")
        time.sleep(3)
        assert look_at(cloud, server)["status"] == "BUILD"
    assert settled(cloud, server)["status"] == "ACTIVE"


@pytest.mark.parametrize("service", ["rabbitmq", "mariadb"])
def test_clouds_are_whole_again_after_what_they_share_was_down(
    testbed: Testbed, cloud: Connection, before: Census, service: str
) -> None:
    with testbed.stopped(service):
        pass
    assert settled(cloud, boot(cloud, "afterwards"))["status"] == "ACTIVE"


def test_quotas_refuse_and_are_taken_back(
    testbed: Testbed, cloud: Connection, before: Census, network: str
) -> None:
    uuid = cloud.network.find_network(network, ignore_missing=False).id
    with testbed.quota(UNIFORM, instances=len(before.servers), ports=0):
        assert "Quota exceeded for instances" in ask_for_server(cloud, "one-too-many").text
        with pytest.raises(exceptions.ConflictException, match="port"):
            cloud.network.create_port(network_id=uuid)
    with testbed.quota(UNIFORM, floating_ips=0):
        public = cloud.network.find_network("public", ignore_missing=False)
        with pytest.raises(exceptions.ConflictException, match="floatingip"):
            cloud.network.create_ip(floating_network_id=public.id)
    cloud.network.create_port(network_id=uuid)
    boot(cloud, "allowed")


def test_revoked_tokens_are_refused_everywhere_at_once(testbed: Testbed, cloud: Connection) -> None:
    urls = {
        "identity": "/auth/projects",
        "compute": "/servers",
        "network": "/v2.0/networks",
        "image": "/v2/images",
        "placement": "/resource_providers",
    }
    headers = {"X-Auth-Token": str(cloud.session.get_token())}

    def statuses() -> dict[str, int]:
        return {
            kind: httpx.get(testbed.settings.url(UNIFORM, kind) + path, headers=headers).status_code
            for kind, path in urls.items()
        }

    assert 401 not in statuses().values()
    testbed.revoke_tokens(UNIFORM)
    assert statuses() == dict.fromkeys(urls, 401)
    names(cloud)  # the connection gets a new token by itself
    with contextlib.closing(connect(testbed.application_credentials_file, UNIFORM)) as other:
        names(other)


def test_an_api_refuses_delays_and_loses_as_told(
    testbed: Testbed, cloud: Connection, before: Census
) -> None:
    create = {"method": "POST", "path": "/servers$", "times": 1}
    with testbed.faults(UNIFORM, "nova-api", {**create, "status": 429, "retry_after": 7}):
        refused = ask_for_server(cloud, "refused")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")
        assert ask_for_server(cloud, "accepted").status_code == 202
    with testbed.faults(UNIFORM, "nova-api", {**create, "delay": 1.5}):
        began = time.monotonic()
        boot(cloud, "late")
        assert time.monotonic() - began > 1.5
    for lose in ("request", "answer"):
        with (
            testbed.faults(UNIFORM, "nova-api", {**create, "lose": lose}),
            pytest.raises(keystone_errors.ConnectFailure),
        ):
            ask_for_server(cloud, f"lost-{lose}")
    assert set(names(cloud)) - {server["name"] for server in before.servers} == {
        "accepted",
        "late",
        "lost-answer",
    }


def test_calls_are_counted_by_who_made_them(
    testbed: Testbed, cloud: Connection, before: Census, network: str
) -> None:
    uuid = cloud.network.find_network(network, ignore_missing=False).id
    seen = {service: len(testbed.calls(UNIFORM, service)) for service in ("nova-api", "neutron")}
    server = boot(cloud, "counted", [{"uuid": uuid}])
    settled(cloud, server)
    cloud.compute.delete(f"/servers/{server}")
    wait_for(lambda: cloud.compute.get(f"/servers/{server}").status_code == 404)
    calls = testbed.calls(UNIFORM, "nova-api")[seen["nova-api"] :]
    changes = [call for call in calls if call["method"] != "GET" and call["user"] == "isoneph"]
    assert [(call["method"], call["status"]) for call in changes] == [
        ("POST", 202),
        ("DELETE", 204),
    ]
    assert changes[1]["path"] == f"/v2.1/servers/{server}"
    assert {call["agent"].split(" ")[0] for call in changes} == {"testbed-test/1"}
    ports = [
        call
        for call in testbed.calls(UNIFORM, "neutron")[seen["neutron"] :]
        if call["method"] == "POST"
    ]
    assert [(call["user"], call["through"]) for call in ports] == [("isoneph", "nova")]


def test_a_server_boots_from_a_volume_that_goes_with_it(
    testbed: Testbed, cloud: Connection, before: Census
) -> None:
    if not testbed.settings.volumes:
        pytest.skip("somebody brought the testbed up with --no-volumes: it has no Cinder")
    image = cloud.image.find_image("tiny", ignore_missing=False)
    disk = {"boot_index": 0, "source_type": "image", "uuid": image.id}
    disk |= {"destination_type": "volume", "volume_size": 1, "delete_on_termination": True}
    wanted = request_for(cloud, "on-a-volume") | {"block_device_mapping_v2": [disk]}
    del wanted["imageRef"]
    with testbed.quota(UNIFORM, volumes=len(before.volumes)):
        refused = cloud.compute.post("/servers", json={"server": wanted}).json()["server"]["id"]
        assert "quota" in settled(cloud, refused)["fault"]["message"]
    server = cloud.compute.post("/servers", json={"server": wanted}).json()["server"]["id"]
    assert settled(cloud, server)["status"] == "ACTIVE"
    made = testbed.census(UNIFORM).without(before).volumes
    assert [volume["attachments"][0]["server_id"] for volume in made] == [server]
    cloud.compute.delete(f"/servers/{server}")
    wait_for(lambda: not testbed.census(UNIFORM).without(before).volumes)
