"""What stands in the database: one cloud's calls, faults, VMs and ports, read and written.

Every function works in the caller's transaction, on the cloud it is given the name of.
"""

from __future__ import annotations

import ipaddress
import json
import random
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from isoneph.core.errors import Unreachable
from isoneph.core.identity import TAG_APPLICATION, TAG_ID
from isoneph.core.model import VmState
from isoneph.plugins.clouds.mock.faults import Fault
from isoneph.plugins.clouds.mock.options import merge_options
from isoneph.plugins.clouds.mock.values import ANY, Duration, draw

_FIRST_ADDRESS = int(ipaddress.IPv4Address("10.0.0.0"))
_ADDRESSES = 2**24

#: How a VM's state follows from its times; ``:now`` is bound to the clock's.
_STATE = """CASE
    WHEN gone_at IS NOT NULL THEN 'DELETING'
    WHEN state IS NOT NULL THEN state
    WHEN :now < boots_at THEN 'BUILDING'
    WHEN fault IS NOT NULL THEN 'ERROR'
    ELSE 'ACTIVE'
END"""
_PRESENT = "cloud = :cloud AND (gone_at IS NULL OR gone_at > :now)"


class VmRecord(NamedTuple):
    """A VM as it stands in a simulated cloud, whoever made it; times are the clock's."""

    cloud_id: str
    name: str
    type: str
    state: VmState
    fault: str | None
    address: str
    tags: Mapping[str, str]
    resources: Mapping[str, float]
    created_at: float
    visible: bool


class PortRecord(NamedTuple):
    """A port that stayed behind when its VM was deleted."""

    cloud_id: str
    vm_id: str
    application: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """A fault that a simulated cloud was told to show.

    ``remaining`` is how many calls it still befalls (None: no end), ``hits`` how many met it;
    ``configured`` whether it came from the driver's options.
    """

    id: int
    fault: Fault
    remaining: int | None
    hits: int
    configured: bool


class Call:
    """One call to a cloud: the options it meets, its own source of chance, its fault."""

    def __init__(self, key: str, options: Mapping[str, Any]) -> None:
        self.options = options
        self.fault: Fault | None = None
        self._seed = f"{options['seed']}/{key}"

    @cached_property
    def _rng(self) -> random.Random:
        return random.Random(self._seed)

    def meets(self, kind: str) -> Fault | None:
        """The fault that befalls this call, if it is of that kind."""
        return self.fault if self.fault is not None and self.fault.fault == kind else None

    def happens(self, probability: float) -> bool:
        """Whether something of that probability happens."""
        return probability >= 1 or self._rng.random() < probability

    def draw(self, spec: Duration) -> float:
        """One duration in seconds."""
        return draw(spec, lambda: self._rng)

    def latency(self, name: str) -> float:
        """How long the call ``name`` takes, in seconds."""
        by_call = self.options["latency"]
        return self.draw(by_call.get(name, by_call.get(ANY, 0.0)))


def enrol_cloud(db: sqlite3.Connection, cloud: str) -> None:
    """Make sure that there is a cloud of that name."""
    db.execute("INSERT INTO cloud (name) VALUES (?) ON CONFLICT DO NOTHING", (cloud,))


def read_options(db: sqlite3.Connection, cloud: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the driver, empty before it was first started, and the overrides."""
    row = db.execute("SELECT options, overrides FROM cloud WHERE name = ?", (cloud,)).fetchone()
    options, overrides = row or (None, None)
    return json.loads(options or "{}"), json.loads(overrides or "{}")


def write_options(db: sqlite3.Connection, cloud: str, options: Mapping[str, Any]) -> None:
    """Keep the driver's options."""
    db.execute("UPDATE cloud SET options = ? WHERE name = ?", (json.dumps(options), cloud))


def write_overrides(db: sqlite3.Connection, cloud: str, overrides: Mapping[str, Any]) -> None:
    """Keep what was set at run time."""
    db.execute("UPDATE cloud SET overrides = ? WHERE name = ?", (json.dumps(overrides), cloud))


def enter_call(db: sqlite3.Connection, cloud: str, name: str, type_name: str, now: float) -> Call:
    """Count a call and find the fault that befalls it."""
    row = db.execute("SELECT options, overrides FROM cloud WHERE name = ?", (cloud,)).fetchone()
    if row is None or row[0] is None:
        raise Unreachable(f"mock cloud '{cloud}' has not been started")
    (number,) = db.execute(
        "INSERT INTO call VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 "
        "RETURNING count",
        (cloud, name),
    ).fetchone()
    # Chance follows from the number among calls of this name: however often somebody lists in
    # between, the third create finds the same luck.
    call = Call(f"{cloud}/{name}/{number}", merge_options(row[0], row[1]))
    faults = db.execute(
        "SELECT id, spec FROM fault WHERE cloud = ? AND begins_at <= ? "
        "AND (ends_at IS NULL OR ends_at > ?) AND (remaining IS NULL OR remaining > 0) "
        "ORDER BY kind != 'outage', id",
        (cloud, now, now),
    ).fetchall()
    for fault_id, spec in faults:
        fault = _fault(spec)
        if fault.concerns(name, type_name) and call.happens(fault.probability):
            db.execute(
                "UPDATE fault SET hits = hits + 1, remaining = remaining - 1 WHERE id = ?",
                (fault_id,),
            )
            call.fault = fault
            break
    return call


def count_calls(db: sqlite3.Connection, cloud: str) -> dict[str, int]:
    """How many calls of each name there were."""
    return dict(db.execute("SELECT name, count FROM call WHERE cloud = ?", (cloud,)))


@lru_cache(maxsize=256)
def _fault(spec: str) -> Fault:
    return Fault(**json.loads(spec))


def add_fault(
    db: sqlite3.Connection, cloud: str, fault: Fault, now: float, *, configured: bool = False
) -> int:
    """Arm a fault and return its number."""
    begins = now + fault.after
    ends = None if fault.lasts is None else begins + fault.lasts
    spec = json.dumps(asdict(fault))
    cursor = db.execute(
        "INSERT INTO fault (cloud, configured, kind, spec, remaining, begins_at, ends_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (cloud, configured, fault.fault, spec, fault.count, begins, ends),
    )
    return int(cursor.lastrowid or 0)


def list_faults(db: sqlite3.Connection, cloud: str) -> list[FaultRecord]:
    """All faults, used up or not, in the order in which they were armed."""
    rows = db.execute(
        "SELECT id, spec, remaining, hits, configured FROM fault WHERE cloud = ? ORDER BY id",
        (cloud,),
    )
    return [
        FaultRecord(
            id=number,
            fault=_fault(spec),
            remaining=remaining,
            hits=hits,
            configured=bool(configured),
        )
        for number, spec, remaining, hits, configured in rows
    ]


def remove_faults(db: sqlite3.Connection, cloud: str, numbers: Iterable[int]) -> None:
    """Take faults away."""
    db.executemany(
        "DELETE FROM fault WHERE cloud = ? AND id = ?", [(cloud, number) for number in numbers]
    )


def add_vm(
    db: sqlite3.Connection,
    cloud: str,
    *,
    name: str,
    type_name: str,
    tags: Mapping[str, str],
    resources: Mapping[str, float],
    now: float,
    boot_seconds: float = 0.0,
    visible_after: float = 0.0,
    fault: str | None = None,
) -> VmRecord:
    """Add a VM, which begins to boot."""
    (number,) = db.execute(
        "UPDATE cloud SET vms = vms + 1 WHERE name = ? RETURNING vms", (cloud,)
    ).fetchone()
    vm = VmRecord(
        cloud_id=f"{cloud}-{number}",
        name=name,
        type=type_name,
        state=VmState.BUILDING,
        fault=None,
        address=_address(cloud, number),
        tags=MappingProxyType(dict(tags)),
        resources=MappingProxyType({"instances": 1, **resources}),
        created_at=now,
        visible=visible_after <= 0,
    )
    values = {
        "cloud": cloud,
        "cloud_id": vm.cloud_id,
        "number": number,
        "name": name,
        "type": type_name,
        "application": tags.get(TAG_APPLICATION, ""),
        "address": vm.address,
        "tags": json.dumps(dict(vm.tags)),
        "resources": json.dumps(dict(vm.resources)),
        "created_at": now,
        "visible_at": now + visible_after,
        "boots_at": now + boot_seconds,
        "fault": fault,
    }
    db.execute(
        f"INSERT INTO vm ({', '.join(values)}) VALUES (:{', :'.join(values)})",  # noqa: S608 (only column names)
        values,
    )
    return vm


def _address(cloud: str, number: int) -> str:
    # Each cloud begins elsewhere, so that addresses seldom meet across clouds either.
    offset = (zlib.crc32(cloud.encode()) + number) % _ADDRESSES
    return str(ipaddress.IPv4Address(_FIRST_ADDRESS + offset))


def list_vms(db: sqlite3.Connection, cloud: str, now: float, **equal: str) -> list[VmRecord]:
    """All VMs, whosesoever, those not yet visible too; ``equal`` narrows by column."""
    conditions = "".join(f" AND {column} = :{column}" for column in equal)
    rows = db.execute(
        f"SELECT cloud_id, name, type, {_STATE}, fault, address, tags, resources, "  # noqa: S608 (only constants and column names)
        f"created_at, visible_at FROM vm WHERE {_PRESENT}{conditions} ORDER BY number",
        {"cloud": cloud, "now": now, **equal},
    )
    return [_vm_record(row, now) for row in rows]


def _vm_record(row: Sequence[Any], now: float) -> VmRecord:
    cloud_id, name, type_name, state, fault, address, tags, resources, created, visible = row
    return VmRecord(
        cloud_id,
        name,
        type_name,
        VmState(state),
        fault if state == VmState.ERROR else None,
        address,
        _mapping(tags),
        _mapping(resources),
        created,
        visible <= now,
    )


@lru_cache(maxsize=8192)
def _mapping(text: str) -> Mapping[str, Any]:
    # A listing reads the same few texts again and again: parsing them was half its time.
    return MappingProxyType(json.loads(text))


def set_vm_state(
    db: sqlite3.Connection, cloud: str, cloud_id: str, state: VmState, fault: str | None
) -> bool:
    """Put a VM in a state by hand; whether there was such a VM."""
    cursor = db.execute(
        "UPDATE vm SET state = ?, fault = ? WHERE cloud = ? AND cloud_id = ?",
        (state, fault, cloud, cloud_id),
    )
    return cursor.rowcount > 0


def remove_vm(db: sqlite3.Connection, cloud: str, cloud_id: str, gone_at: float) -> None:
    """Have a VM be gone from ``gone_at``, if it is not to be gone sooner already."""
    db.execute(
        "UPDATE vm SET gone_at = :gone_at WHERE cloud = :cloud AND cloud_id = :cloud_id "
        "AND (gone_at IS NULL OR gone_at > :gone_at)",
        {"cloud": cloud, "cloud_id": cloud_id, "gone_at": gone_at},
    )


def forget_gone_vms(db: sqlite3.Connection, cloud: str, now: float) -> None:
    """Make room of what is gone."""
    db.execute("DELETE FROM vm WHERE cloud = ? AND gone_at <= ?", (cloud, now))


def sum_resources(db: sqlite3.Connection, cloud: str, now: float) -> dict[str, float]:
    """What all VMs take together, by resource name."""
    return dict(
        db.execute(
            "SELECT key, SUM(value) FROM vm, json_each(vm.resources) "  # noqa: S608 (constants)
            f"WHERE {_PRESENT} GROUP BY key",
            {"cloud": cloud, "now": now},
        )
    )


def count_vms(db: sqlite3.Connection, cloud: str, type_name: str, now: float) -> int:
    """How many VMs there are of a type."""
    (count,) = db.execute(
        f"SELECT COUNT(*) FROM vm WHERE {_PRESENT} AND type = :type",  # noqa: S608 (constants)
        {"cloud": cloud, "now": now, "type": type_name},
    ).fetchone()
    return int(count)


def add_port(db: sqlite3.Connection, cloud: str, vm: VmRecord, left_at: float) -> None:
    """Leave a VM's port behind, to be seen from ``left_at``."""
    db.execute(
        "INSERT INTO port VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            cloud,
            f"{vm.cloud_id}-port",
            vm.tags.get(TAG_ID, ""),
            vm.tags.get(TAG_APPLICATION, ""),
            left_at,
        ),
    )


def list_ports(db: sqlite3.Connection, cloud: str, now: float, **equal: str) -> list[PortRecord]:
    """The ports that were left behind, oldest first; ``equal`` narrows by column."""
    conditions = "".join(f" AND {column} = :{column}" for column in equal)
    rows = db.execute(
        "SELECT cloud_id, vm_id, application FROM port "  # noqa: S608 (only column names)
        f"WHERE cloud = :cloud AND left_at <= :now{conditions} ORDER BY left_at, cloud_id",
        {"cloud": cloud, "now": now, **equal},
    )
    return [PortRecord(*row) for row in rows]


def remove_port(db: sqlite3.Connection, cloud: str, cloud_id: str, vm_id: str) -> None:
    """Remove a port, if it is that VM's."""
    db.execute(
        "DELETE FROM port WHERE cloud = ? AND cloud_id = ? AND vm_id = ?",
        (cloud, cloud_id, vm_id),
    )
