"""The driver: every call is counted, delayed, perhaps struck by a fault, and then acted."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from voluptuous import Invalid

from isoneph.core.errors import InvalidRequest, NoCapacity, QuotaExceeded
from isoneph.core.identity import TAG_ID, is_ours
from isoneph.core.model import Leftover, Limits, Quota, Vm, VmRequest
from isoneph.core.plugin import Cloud, Environment, OptionSchema
from isoneph.plugins.clouds.mock import records
from isoneph.plugins.clouds.mock.faults import BOOT_FAULT, parse_fault
from isoneph.plugins.clouds.mock.options import (
    SCHEMA,
    TYPE_SCHEMA,
    check_options,
    check_type_options,
)
from isoneph.plugins.clouds.mock.records import Call, VmRecord
from isoneph.plugins.clouds.mock.simulation import Simulation
from isoneph.plugins.clouds.mock.state import State
from isoneph.plugins.clouds.mock.values import Duration

#: The one network that every VM has one address on.
NETWORK = "mock"
_PORT = "port"


class MockCloud(Cloud):
    """A simulated cloud for tests and trials, scriptable while it runs.

    It lives in the state file that its options name, and is one with every other cloud of the
    same name there; the options of the driver last started hold for all. VMs boot on
    ``environment.clock``, when somebody looks. :attr:`simulation` scripts it.
    """

    schema: ClassVar[OptionSchema] = SCHEMA
    type_schema: ClassVar[OptionSchema] = TYPE_SCHEMA

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(check_options(options), environment)
        self._name = environment.name
        self._clock = environment.clock
        self._state = State(self.options["state"])
        #: The remote control, usable before ``start`` too.
        self.simulation = Simulation(self._state, self._name, time=environment.clock.time)

    def start(self) -> None:
        """Open the state, hand it the options, and arm the faults among them that are new."""
        self._state.open()
        with self._state.transaction() as db:
            records.enrol_cloud(db, self._name)
            before, _ = records.read_options(db, self._name)
            records.write_options(db, self._name, self.options)
            if before.get("faults", []) != self.options["faults"]:
                self._arm_faults(db)

    def close(self) -> None:
        """Close the state file."""
        self._state.close()

    def create_vm(self, request: VmRequest) -> Vm:
        """As :meth:`Cloud.create_vm`; the answer always says BUILDING."""
        call = self._enter("create", request.type.name)
        boot_seconds = call.draw(self._boot_spec(call, request))
        failed, late = call.meets("error_after_accept"), call.meets("timeout_after")
        now = self._clock.time()
        with self._state.transaction() as db:
            records.forget_gone_vms(db, self._name, now)
            self._check_room(db, call, request, now)
            record = records.add_vm(
                db,
                self._name,
                name=request.name,
                type_name=request.type.name,
                tags=request.tags,
                resources=request.type.resources,
                now=now,
                boot_seconds=boot_seconds,
                visible_after=late.visible_after if late else 0.0,
                fault=(failed.message or BOOT_FAULT) if failed else None,
            )
            vm = self._vm(record, request.application)
            if vm is None:
                raise InvalidRequest("the tags are not of an isoneph VM")
        if late:
            raise late.error()
        return vm

    def get_vm(self, vm: Vm) -> Vm | None:
        """As :meth:`Cloud.get_vm`; None too when another VM stands under the cloud id."""
        self._enter("get", vm.type)
        with self._state.transaction(write=False) as db:
            record = self._find(db, vm)
        return self._vm(record, vm.application) if record and record.visible else None

    def list_vms(self, application: str) -> Sequence[Vm]:
        """As :meth:`Cloud.list_vms`, in the order of creation."""
        self._enter("list")
        with self._state.transaction(write=False) as db:
            rows = records.list_vms(db, self._name, self._clock.time(), application=application)
        vms = (self._vm(record, application) for record in rows if record.visible)
        return [vm for vm in vms if vm is not None]

    def delete_vm(self, vm: Vm) -> None:
        """As :meth:`Cloud.delete_vm`; another VM that stands under the cloud id stays."""
        call = self._enter("delete", vm.type)
        gone_at = self._clock.time() + call.draw(call.options["delete_seconds"])
        with self._state.transaction() as db:
            record = self._find(db, vm)
            if record is not None and not call.meets("ignored"):
                records.remove_vm(db, self._name, record.cloud_id, gone_at)
                if call.meets("leave_port"):
                    records.add_port(db, self._name, record, gone_at)
            records.forget_gone_vms(db, self._name, self._clock.time())
        late = call.meets("timeout_after")
        if late:
            raise late.error()

    def get_limits(self) -> Limits:
        """As :meth:`Cloud.get_limits`: the quotas of the options."""
        call = self._enter("limits")
        with self._state.transaction(write=False) as db:
            used = records.sum_resources(db, self._name, self._clock.time())
        return {
            name: Quota(limit=limit, used=used.get(name, 0.0))
            for name, limit in call.options["quotas"].items()
        }

    def list_leftovers(self, application: str) -> Sequence[Leftover]:
        """As :meth:`Cloud.list_leftovers`: the ports that fault ``leave_port`` left."""
        self._enter("list_leftovers")
        with self._state.transaction(write=False) as db:
            ports = records.list_ports(db, self._name, self._clock.time(), application=application)
        return [
            Leftover(cloud=self._name, kind=_PORT, cloud_id=port.cloud_id, vm_id=port.vm_id)
            for port in ports
        ]

    def delete_leftover(self, leftover: Leftover) -> None:
        """As :meth:`Cloud.delete_leftover`."""
        self._enter("delete_leftover")
        if leftover.kind == _PORT:
            with self._state.transaction() as db:
                records.remove_port(db, self._name, leftover.cloud_id, leftover.vm_id)

    def _arm_faults(self, db: sqlite3.Connection) -> None:
        former = [item.id for item in records.list_faults(db, self._name) if item.configured]
        records.remove_faults(db, self._name, former)
        for spec in self.options["faults"]:
            now = self._clock.time()
            records.add_fault(db, self._name, parse_fault(spec), now, configured=True)

    def _enter(self, name: str, type_name: str = "") -> Call:
        """Count the call, let it take its time, and raise the fault that stops it, if any."""
        with self._state.transaction() as db:
            call = records.enter_call(db, self._name, name, type_name, self._clock.time())
        self._pause(call.latency(name))
        if call.fault:
            self.environment.logger.debug(
                "mock cloud %s: %s meets fault %s", self._name, name, call.fault.fault
            )
            self._pause(call.fault.seconds)
            if call.fault.strikes_first:
                raise call.fault.error()
        return call

    def _pause(self, seconds: float) -> None:
        if seconds:
            self._clock.pause(seconds)

    def _boot_spec(self, call: Call, request: VmRequest) -> Duration:
        try:
            options = check_type_options(request.type.options)
        except Invalid as error:
            raise InvalidRequest(f"type '{request.type.name}': {error}") from error
        spec: Duration = options.get("boot_seconds", call.options["boot_seconds"])
        return spec

    def _check_room(
        self, db: sqlite3.Connection, call: Call, request: VmRequest, now: float
    ) -> None:
        type_name, quotas = request.type.name, call.options["quotas"]
        used = records.sum_resources(db, self._name, now) if quotas else {}
        for name, amount in {"instances": 1, **request.type.resources}.items():
            limit = quotas.get(name)
            if limit is not None and used.get(name, 0.0) + amount > limit:
                raise QuotaExceeded(
                    f"quota exceeded for {name}: asked for {amount:g}, used "
                    f"{used.get(name, 0.0):g} of {limit:g}"
                )
        room = call.options["capacity"].get(type_name)
        if room is not None and records.count_vms(db, self._name, type_name, now) >= room:
            raise NoCapacity(f"no host has room for type '{type_name}'")

    def _find(self, db: sqlite3.Connection, vm: Vm) -> VmRecord | None:
        """What stands under the VM's cloud id, if it is that VM."""
        now = self._clock.time()
        for record in records.list_vms(db, self._name, now, cloud_id=vm.cloud_id):
            if is_ours(record.tags, vm.application) and record.tags[TAG_ID] == vm.id:
                return record
        return None

    def _vm(self, record: VmRecord, application: str) -> Vm | None:
        return Vm.from_tags(
            record.tags,
            application,
            cloud=self._name,
            cloud_id=record.cloud_id,
            name=record.name,
            state=record.state,
            addresses={NETWORK: (record.address,)},
            fault=record.fault,
        )
