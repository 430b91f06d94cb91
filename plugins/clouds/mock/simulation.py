"""The remote control of a simulated cloud."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Self

from isoneph.core.model import VmState
from isoneph.plugins.clouds.mock import records
from isoneph.plugins.clouds.mock.faults import parse_fault
from isoneph.plugins.clouds.mock.options import check_options
from isoneph.plugins.clouds.mock.records import FaultRecord, PortRecord, VmRecord
from isoneph.plugins.clouds.mock.state import State

#: Options that are not set at run time: the one names the state, the other has its own verbs.
_FIXED = {"state", "faults"}


class Simulation:
    """Scripts one simulated cloud, while drivers in this or other processes use it.

    ::

        with Simulation("/tmp/clouds.db", "east") as east:
            east.inject("timeout_after", call="create", count=1)

    What it does holds from the next call of any driver on. It may come before the first driver.
    ``time`` must be the clock that the drivers go by. Safe for threads. All methods raise
    :class:`~isoneph.core.errors.Unreachable` when the state file cannot be used, and
    ``voluptuous.Invalid`` for a fault or an option that is wrong.
    """

    def __init__(
        self,
        state: str | PathLike[str] | State,
        cloud: str,
        *,
        time: Callable[[], float] = time.time,
    ) -> None:
        self._state = state if isinstance(state, State) else State(fspath(state))
        self.cloud = cloud
        self._time = time

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the state file."""
        self._state.close()

    @property
    def options(self) -> Mapping[str, Any]:
        """The options in force: those of the driver last started, and over them what
        :meth:`override` set."""
        with self._state.transaction(write=False) as db:
            options, overrides = records.read_options(db, self.cloud)
        return {**options, **overrides}

    def override(self, **options: Any) -> None:
        """Set options (``quotas``, ``boot_seconds``, ``latency`` ...) over the driver's own, until
        :meth:`restore`, over restarts too. Each replaces the whole of its former value."""
        fixed = options.keys() & _FIXED
        if fixed:
            raise ValueError(f"cannot be set at run time: {', '.join(sorted(fixed))}")
        checked = check_options(options)
        with self._state.transaction() as db:
            records.enrol_cloud(db, self.cloud)
            _, overrides = records.read_options(db, self.cloud)
            overrides |= {name: checked[name] for name in options}
            records.write_overrides(db, self.cloud, overrides)

    def restore(self) -> None:
        """Go back to the driver's own options."""
        with self._state.transaction() as db:
            records.write_overrides(db, self.cloud, {})

    def inject(self, fault: str, call: str = "any", **details: Any) -> int:
        """Arm a fault and return its number; ``details`` are as in the option ``faults``."""
        parsed = parse_fault({"fault": fault, "call": call, **details})
        with self._state.transaction() as db:
            return records.add_fault(db, self.cloud, parsed, self._time())

    def faults(self) -> list[FaultRecord]:
        """All faults, used up or not, in the order in which they were armed."""
        with self._state.transaction(write=False) as db:
            return records.list_faults(db, self.cloud)

    def clear_faults(self, *numbers: int) -> None:
        """Take these faults away, or all, those of the driver's options too. The latter stay
        away until the options name other faults."""
        with self._state.transaction() as db:
            chosen = numbers or [item.id for item in records.list_faults(db, self.cloud)]
            records.remove_faults(db, self.cloud, chosen)

    def begin_outage(self, seconds: float | None = None) -> None:
        """Have every call raise Unreachable, for so long or until :meth:`end_outage`."""
        details: dict[str, Any] = {} if seconds is None else {"lasts": seconds}
        self.inject("outage", **details)

    def end_outage(self) -> None:
        """End every outage, those of the driver's options too."""
        with self._state.transaction() as db:
            outages = [
                item.id
                for item in records.list_faults(db, self.cloud)
                if item.fault.fault == "outage"
            ]
            records.remove_faults(db, self.cloud, outages)

    def calls(self) -> Mapping[str, int]:
        """How many calls the cloud got since it began, by name; those that failed count too."""
        with self._state.transaction(write=False) as db:
            return records.count_calls(db, self.cloud)

    def vms(self) -> list[VmRecord]:
        """All VMs in the order of their creation: anybody's, and those not yet visible."""
        with self._state.transaction(write=False) as db:
            return records.list_vms(db, self.cloud, self._time())

    def add_vm(
        self,
        name: str = "foreign",
        *,
        type: str = "",  # noqa: A002 (it is what the record calls it)
        tags: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> str:
        """Add an ACTIVE VM past isoneph, whatever its tags, and return its cloud id."""
        with self._state.transaction() as db:
            records.enrol_cloud(db, self.cloud)
            vm = records.add_vm(
                db,
                self.cloud,
                name=name,
                type_name=type,
                tags=tags or {},
                resources=resources or {},
                now=self._time(),
            )
        return vm.cloud_id

    def set_vm_state(self, cloud_id: str, state: VmState, fault: str | None = None) -> None:
        """Put a VM in a state that it stays in: stopped by an operator, broken down (with
        ``fault`` for a reason) ... Raises KeyError when there is no such VM."""
        with self._state.transaction() as db:
            if not records.set_vm_state(db, self.cloud, cloud_id, state, fault):
                raise KeyError(cloud_id)

    def remove_vm(self, cloud_id: str) -> None:
        """Take a VM away at once, behind isoneph's back."""
        with self._state.transaction() as db:
            records.remove_vm(db, self.cloud, cloud_id, self._time())
            records.forget_gone_vms(db, self.cloud, self._time())

    def ports(self) -> list[PortRecord]:
        """The ports that deleted VMs left behind, oldest first."""
        with self._state.transaction(write=False) as db:
            return records.list_ports(db, self.cloud, self._time())
