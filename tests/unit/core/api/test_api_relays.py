"""VMs with a relay in the API: their states, waiting for them, and removing them gently."""

from __future__ import annotations

from typing import Any

import pytest

from api_site import Site, open_site, problem
from isoneph.core.carrying import Carrier
from isoneph.core.testing import NullMetrics
from scripted_relay import RELAY, Elsewhere, ScriptedRegistry
from world import World


class RelayedSite:
    """The API of an application with a relay, and the relay."""

    def __init__(self, site: Site, elsewhere: Elsewhere, world: World) -> None:
        self.http = site.http
        self.relay = elsewhere.relay
        self.elsewhere = elsewhere
        self._world = world
        balancer = site.deployment.applications["mme"].balancer
        assert balancer.relayed is not None
        self._carrier = Carrier(balancer, balancer.relayed, world.clock, NullMetrics())
        self._site = site

    async def create(self, sessions: int = 0, **body: Any) -> str:
        """The id of a VM that the relay knows."""
        vm_id = str((await self._site.create(**body))["id"])
        self.relay.sessions[vm_id] = sessions
        await self.round()
        return vm_id

    async def round(self) -> None:
        self._world.clock.advance(3)
        await self._carrier.balancer.fleet.ensure(0.0)
        await self._carrier.carry()


@pytest.fixture
async def relayed(world: World, monkeypatch: pytest.MonkeyPatch) -> RelayedSite:
    world.registry = ScriptedRegistry()
    elsewhere = Elsewhere().take_the_place_of_processes(monkeypatch)
    return RelayedSite(await open_site(world, relay=RELAY), elsewhere, world)


async def test_a_vm_shows_what_its_relay_says(relayed: RelayedSite) -> None:
    vm_id = await relayed.create(sessions=2)
    for shown in (
        (await relayed.http.get(f"/vm/{vm_id}")).json(),
        (await relayed.http.get("/vm?state=SERVING")).json()["vms"][0],
    ):
        assert (shown["id"], shown["state"]) == (vm_id, "SERVING")
        assert shown["relay"] == {
            "ready": True,
            "sessions": 2,
            "text": "",
            "draining_since": None,
            "drain_deadline": None,
            "stale": False,
        }
    assert (await relayed.http.get("/vm?state=READY")).json()["vms"] == []


async def test_without_a_relay_a_vm_shows_none(site: Site) -> None:
    assert "relay" not in await site.create()
    assert "relay" not in (await site.http.get("/vm")).json()["vms"][0]


async def test_a_create_can_wait_for_ready(relayed: RelayedSite) -> None:
    vm_id = await relayed.create(sessions=1)
    answer = await relayed.http.get(f"/vm/{vm_id}?wait=READY&timeout=1")
    assert (answer.status_code, answer.json()["state"]) == (200, "SERVING")
    answer = await relayed.http.get(f"/vm/{vm_id}?wait=ACTIVE&timeout=1")
    assert (answer.status_code, answer.json()["state"]) == (200, "SERVING")
    answer = await relayed.http.post("/vm?wait=READY&timeout=1", json={"type": "worker"})
    found = problem(answer, 504, "wait_timeout")
    assert "the relay does not know it yet" in found["detail"]
    assert len(found["vms"]) == 1


async def test_a_create_that_expects_ready_does_not_wait_for_it(relayed: RelayedSite) -> None:
    answer = await relayed.http.post("/vm?expect=READY", json={"type": "worker"})
    assert (answer.status_code, answer.json()["state"]) == (201, "BUILDING")


@pytest.mark.parametrize("parameter", ["wait", "expect"])
async def test_without_a_relay_ready_is_a_mistake_before_anything_is_created(
    site: Site, parameter: str
) -> None:
    answer = await site.http.post(f"/vm?{parameter}=READY", json={"type": "worker"})
    found = problem(answer, 400, "invalid_query")
    assert found["detail"] == ("a VM of mme is never READY: mme has no relay; wait for ACTIVE")
    assert found["errors"][0]["path"] == parameter
    assert (await site.http.get("/vm")).json()["total"] == 0
    vm = await site.create()
    problem(await site.http.get(f"/vm/{vm['id']}?wait=READY"), 400, "invalid_query")


async def test_a_delete_of_what_has_sessions_is_accepted_and_carried_out_later(
    relayed: RelayedSite,
) -> None:
    vm_id = await relayed.create(sessions=2)
    for _ in range(2):
        answer = await relayed.http.delete(f"/vm/{vm_id}")
        shown = answer.json()
        assert (answer.status_code, shown["state"]) == (202, "DRAINING")
        assert shown["relay"]["drain_deadline"] == shown["relay"]["draining_since"] + 100
    problem(await relayed.http.get(f"/vm/{vm_id}?wait=READY"), 409, "vm_leaving")
    relayed.relay.sessions.clear()
    await relayed.round()
    problem(await relayed.http.get(f"/vm/{vm_id}"), 404, "unknown_vm")


async def test_a_delete_of_what_has_none_is_carried_out(relayed: RelayedSite) -> None:
    vm_id = await relayed.create()
    answer = await relayed.http.delete(f"/vm/{vm_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await relayed.http.get("/vm")).json()["total"] == 0


@pytest.mark.parametrize("path", ["/vm/{}", "/vm"])
async def test_a_delete_need_not_wait_for_sessions(relayed: RelayedSite, path: str) -> None:
    vm_id = await relayed.create(sessions=2)
    answer = await relayed.http.delete(path.format(vm_id), params={"drain": "false"})
    assert answer.status_code in (200, 204)
    assert (await relayed.http.get("/vm")).json()["total"] == 0


async def test_scale_in_drains_too(relayed: RelayedSite) -> None:
    vm_id = await relayed.create(sessions=2)
    answer = await relayed.http.delete("/vm")
    removal = answer.json()
    assert (answer.status_code, removal["vm"]["id"]) == (202, vm_id)
    assert (removal["vm"]["state"], len(removal["ranking"])) == ("DRAINING", 1)
    problem(await relayed.http.delete("/vm"), 404, "unknown_vm")


@pytest.mark.parametrize("value", ["no thanks", "", "2"])
async def test_drain_is_true_or_false(relayed: RelayedSite, value: str) -> None:
    vm_id = await relayed.create()
    answer = await relayed.http.delete(f"/vm/{vm_id}", params={"drain": value})
    problem(answer, 400, "invalid_query")


async def test_a_key_whose_vm_drains_is_refused_until_it_is_gone(relayed: RelayedSite) -> None:
    headers = {"Idempotency-Key": "attach-7"}
    answer = await relayed.http.post("/vm", json={"type": "worker"}, headers=headers)
    relayed.relay.sessions[answer.json()["id"]] = 1
    await relayed.round()
    assert (await relayed.http.delete("/vm")).status_code == 202
    answer = await relayed.http.post("/vm", json={"type": "worker"}, headers=headers)
    problem(answer, 409, "vm_leaving")
    assert answer.headers["retry-after"] == "5"


async def test_a_relay_that_does_not_answer_is_marked(relayed: RelayedSite) -> None:
    vm_id = await relayed.create(sessions=2)
    relayed.elsewhere.reachable = False
    await relayed.round()
    shown = (await relayed.http.get(f"/vm/{vm_id}")).json()
    assert (shown["state"], shown["relay"]["stale"]) == ("SERVING", True)
    assert (await relayed.http.delete(f"/vm/{vm_id}")).status_code == 202
