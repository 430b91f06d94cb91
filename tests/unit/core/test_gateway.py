"""One cloud behind deadlines, a breaker and typed errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from isoneph.core import identity
from isoneph.core.errors import (
    CloudError,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.core.gateway import CloudGateway
from isoneph.core.model import Limits, Quota, Vm, VmRequest, VmState, VmType
from isoneph.core.plugin import Cloud
from isoneph.core.settings import CloudSettings
from isoneph.core.testing import FakeClock, NullMetrics, make_environment, make_request

REQUEST = make_request("mme", VmType(name="worker", resources={"instances": 1, "cores": 2}))


class Scripted(Cloud):
    """Does what the test says."""

    act: Callable[[], Any] = staticmethod(lambda: None)
    limits_read = 0

    def create_vm(self, request: VmRequest) -> Vm:
        given = self.act()
        return given or vm_of(request)

    def get_vm(self, vm: Vm) -> Vm | None:
        self.act()
        return vm

    def list_vms(self, application: str) -> Sequence[Vm]:
        self.act()
        return ()

    def delete_vm(self, vm: Vm) -> None:
        self.act()

    def get_limits(self) -> Limits:
        self.limits_read += 1
        self.act()
        return {"instances": Quota(limit=10, used=self.limits_read)}


def vm_of(request: VmRequest) -> Vm:
    vm = Vm.from_tags(
        request.tags,
        request.application,
        cloud="here",
        cloud_id="1",
        name=request.name,
        state=VmState.BUILDING,
    )
    assert vm is not None
    return vm


@asynccontextmanager
async def gateway_of(
    cloud: Scripted, clock: FakeClock | None = None, **settings: Any
) -> AsyncIterator[CloudGateway]:
    made = CloudGateway(
        CloudSettings(name="here", driver="scripted", **settings),
        cloud,
        clock or FakeClock(),
        NullMetrics(),
    )
    await made.start()
    yield made
    await made.close()


def scripted(act: Callable[[], Any] = lambda: None) -> Scripted:
    cloud = Scripted({}, make_environment("here"))
    cloud.act = act
    return cloud


def raising(error: Exception) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


async def call(gateway: CloudGateway, verb: str) -> CloudError:
    arguments = {"create_vm": REQUEST, "list_vms": "mme"}
    with pytest.raises(CloudError) as raised:
        await getattr(gateway, verb)(arguments.get(verb, vm_of(REQUEST)))
    assert raised.value.cloud == "here"
    return raised.value


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("create_vm", OutcomeUnknown),
        ("delete_vm", OutcomeUnknown),
        ("get_vm", Unreachable),
        ("list_vms", Unreachable),
    ],
)
async def test_a_fault_of_the_driver_is_typed_and_its_words_stay_in_the_log(
    verb: str, kind: type[CloudError], caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway_of(scripted(raising(KeyError("password=geheim")))) as gateway:
        error = await call(gateway, verb)
    assert type(error) is kind
    assert error.message == f"{verb}: the driver failed: KeyError (see the log)"
    assert "geheim" in caplog.text


@pytest.mark.parametrize(
    ("verb", "kind"), [("create_vm", OutcomeUnknown), ("list_vms", Unreachable)]
)
async def test_a_call_that_hangs_ends_at_its_deadline(verb: str, kind: type[CloudError]) -> None:
    release = threading.Event()
    async with gateway_of(scripted(lambda: release.wait(10) and None), timeout=0.05) as gateway:
        error = await call(gateway, verb)
        release.set()
    assert type(error) is kind
    assert error.message == f"{verb}: no answer within 0.05 s"


async def test_when_all_calls_hang_the_next_is_surely_not_begun() -> None:
    release = threading.Event()
    cloud = scripted(lambda: release.wait(10) and None)
    async with gateway_of(cloud, timeout=0.05, calls=1, breaker_failures=9) as gateway:
        errors = await asyncio.gather(*(call(gateway, "create_vm") for _ in range(2)))
        release.set()
    assert {type(error) for error in errors} == {OutcomeUnknown, Unreachable}


async def test_hanging_creates_do_not_hold_up_listings() -> None:
    release = threading.Event()
    cloud = scripted(lambda: release.wait(10) and None)
    async with gateway_of(cloud, timeout=5, calls=1) as gateway:
        create = asyncio.create_task(gateway.create_vm(REQUEST))
        await asyncio.sleep(0.02)
        cloud.act = lambda: None
        assert await gateway.list_vms("mme") == ()
        release.set()
        assert (await create).id == REQUEST.id


async def test_another_vm_than_the_one_asked_for_is_no_answer() -> None:
    other = make_request("mme", VmType(name="worker"))
    async with gateway_of(scripted(lambda: vm_of(other))) as gateway:
        error = await call(gateway, "create_vm")
    assert type(error) is OutcomeUnknown
    assert identity.is_id(other.id)


async def test_only_what_says_so_trips_the_breaker() -> None:
    async with gateway_of(scripted(raising(QuotaExceeded("full"))), breaker_failures=1) as gateway:
        await call(gateway, "create_vm")
        assert gateway.breaker.available
    async with gateway_of(scripted(raising(Unauthorized("no"))), breaker_failures=1) as gateway:
        await call(gateway, "create_vm")
        assert not gateway.breaker.available
        again = await call(gateway, "list_vms")
    assert "left alone by the circuit breaker for 30 s more: unauthorized: no" in again.message


async def test_a_throttled_listing_keeps_the_whole_cloud_in_peace() -> None:
    async with gateway_of(scripted(raising(Throttled("slow", retry_after=5)))) as gateway:
        await call(gateway, "list_vms")
        assert "left alone for 5 s more" in (gateway.avoidance.reason("worker") or "")


async def test_a_create_that_waits_too_long_makes_the_cloud_a_slow_one() -> None:
    clock, cloud = FakeClock(), scripted()
    told: list[str | None] = []

    def act() -> None:
        told.append(gateway.slow())
        clock.advance(15)
        told.append(gateway.slow())

    async with gateway_of(cloud, clock, slow_create=15) as gateway:
        cloud.act = act
        await gateway.create_vm(REQUEST)
        assert told == [None, "a create has been waiting for its answer for 15 s"]
        assert gateway.slow() is None


async def test_limits_are_read_when_old_changed_or_proved_wrong() -> None:
    clock, cloud = FakeClock(), scripted()
    async with gateway_of(cloud, clock, limits_age=300) as gateway:

        async def read() -> int:
            await gateway.first_limits(1)
            return cloud.limits_read

        assert (await read(), await read()) == (1, 1)
        clock.advance(301)
        assert await read() == 2
        await gateway.delete_vm(vm_of(REQUEST))
        clock.advance(0.1)
        assert (await read(), await read()) == (3, 3)
        clock.advance(10)  # it may have taken the cloud some time
        assert (await read(), await read()) == (4, 4)
        clock.advance(60)
        assert await read() == 4
        cloud.act = raising(QuotaExceeded("full"))
        await call(gateway, "create_vm")
        assert gateway.limits is None


async def test_limits_that_cannot_be_read_are_not_asked_for_at_every_turn() -> None:
    clock, cloud = FakeClock(), scripted(raising(Unauthorized("not your business")))
    async with gateway_of(cloud, clock, breaker_failures=99) as gateway:
        for _ in range(5):
            await gateway.first_limits(1)
        assert cloud.limits_read == 1
        clock.advance(31)
        await gateway.first_limits(1)
        assert cloud.limits_read == 2


async def test_what_others_placed_since_the_limits_were_read_is_known() -> None:
    clock = FakeClock()
    async with gateway_of(scripted(), clock) as gateway:
        await gateway.first_limits(1)
        clock.advance(1)
        await gateway.create_vm(REQUEST)
        assert gateway.planned_by_others("mme") == {}
        assert gateway.planned_by_others("web") == {"instances": 1, "cores": 2}
        clock.advance(301)
        await gateway.first_limits(1)
        assert gateway.planned_by_others("web") == {}


async def test_the_log_tells_when_a_cloud_is_given_up_and_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    clock, cloud = FakeClock(), scripted(raising(Unreachable("no route")))
    async with gateway_of(cloud, clock, breaker_failures=2) as gateway:
        for _ in range(4):
            await call(gateway, "list_vms")
        clock.advance(30)
        await call(gateway, "list_vms")
        cloud.act = lambda: None
        clock.advance(60)
        for _ in range(2):
            await gateway.list_vms("mme")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "cloud here: left alone by the circuit breaker for 30 s more: unreachable: no route",
        ),
        ("INFO", "cloud here: it answers again, the circuit breaker is closed"),
    ]
