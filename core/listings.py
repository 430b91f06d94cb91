"""What is known of one cloud's VMs: its last listing, and what was done here since."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from isoneph.core.errors import CloudError, Unreachable
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import Entry
from isoneph.core.model import LIVE_STATES, CloudUse, Vm

#: Seconds by which the clocks of replicas may differ.
CLOCK_SKEW = 5.0


@dataclass(slots=True)
class Listing:
    """One cloud's answer: when it was asked for, on the monotonic clock (``begun``) and in seconds
    since the epoch (``at``); ``use`` is what it comes to when nothing happened since and no limits
    are known."""

    begun: float
    at: float
    vms: dict[str, Vm]
    by_id: dict[str, list[Vm]]
    by_type: Counter[str]
    use: CloudUse
    #: When the limits were read, and what VMs placed since then take of them.
    young: tuple[float, Mapping[str, float]] | None = None

    @staticmethod
    def of(begun: float, at: float, vms: Iterable[Vm]) -> Listing:
        """The listing that these VMs come to."""
        by_cloud_id = {vm.cloud_id: vm for vm in vms}
        live = [vm for vm in by_cloud_id.values() if vm.state in LIVE_STATES]
        by_type = Counter(vm.type for vm in live)
        by_id: dict[str, list[Vm]] = {}
        for vm in by_cloud_id.values():
            by_id.setdefault(vm.id, []).append(vm)
        return Listing(
            begun=begun,
            at=at,
            vms=by_cloud_id,
            by_id=by_id,
            by_type=by_type,
            use=CloudUse(vms=len(live), by_type=by_type),
        )


@dataclass(slots=True)
class View:
    """What is known of one cloud."""

    gateway: CloudGateway
    listing: Listing | None = None
    error: CloudError | None = None
    begun: float = float("-inf")
    #: Whether the log was told that the cloud is not listed.
    missed: bool = False
    task: asyncio.Task[None] | None = None
    made: dict[str, tuple[float, Vm]] = field(default_factory=dict)
    made_ids: set[str] = field(default_factory=set)
    #: The cloud's ids of VMs that were seen ACTIVE.
    booted: set[str] = field(default_factory=set)
    gone: dict[str, float] = field(default_factory=dict)

    def owing(self, now: float) -> CloudError:
        """The error of a cloud whose listing has not come yet."""
        error = Unreachable(f"no answer to the listing for {now - self.begun:.1f} s")
        error.cloud = self.gateway.name
        return error

    def hangs(self, now: float, patience: float) -> bool:
        """Whether a listing has been owed for longer than ``patience``."""
        return self.task is not None and now - self.begun > patience

    def misses(self, entry: Entry) -> bool:
        """Whether the entry's VM is too young to be in the listing, and not known otherwise."""
        if self.listing is None:
            return True
        return not self.knows(entry.id) and entry.at > self.listing.at - CLOCK_SKEW

    def knows(self, vm_id: str) -> bool:
        """Whether the id was listed here, or made here since."""
        listed = self.listing is not None and vm_id in self.listing.by_id
        return listed or vm_id in self.made_ids

    def shows(self, entry: Entry) -> bool:
        """Whether the listing has the entry's VM, not only an earlier copy of it that failed."""
        if self.listing is None or self.lists_live(entry.id):
            return self.listing is not None
        return entry.id in self.listing.by_id and entry.at < self.listing.at

    def lists_live(self, vm_id: str) -> bool:
        """Whether the listing counts a VM of this id."""
        listed = self.listing.by_id.get(vm_id, ()) if self.listing is not None else ()
        return any(vm.state in LIVE_STATES for vm in listed)

    def made_since(self) -> list[Vm]:
        """Live VMs made here that the listing is too old to have."""
        made = [vm for _at, vm in self.made.values() if vm.state in LIVE_STATES]
        return [vm for vm in made if self.listing is None or vm.cloud_id not in self.listing.vms]

    def gone_since(self) -> list[Vm]:
        """VMs that the listing counts and that went since."""
        listed = self.listing.vms if self.listing is not None else {}
        gone = [listed[cloud_id] for cloud_id in self.gone if cloud_id in listed]
        return [vm for vm in gone if vm.state in LIVE_STATES]

    def copies(self, vm_id: str) -> list[Vm]:
        """As :meth:`vms`, only those of this id."""
        listed = self.listing.by_id.get(vm_id, ()) if self.listing is not None else ()
        found = {vm.cloud_id: vm for vm in listed}
        if vm_id in self.made_ids:
            made = self.made.items()
            found.update((cloud_id, vm) for cloud_id, (_at, vm) in made if vm.id == vm_id)
        return [vm for cloud_id, vm in found.items() if cloud_id not in self.gone]

    def vms(self) -> list[Vm]:
        """The listing with what happened since laid over it."""
        known = dict(self.listing.vms) if self.listing is not None else {}
        known.update((cloud_id, vm) for cloud_id, (_at, vm) in self.made.items())
        for cloud_id in self.gone:
            known.pop(cloud_id, None)
        return list(known.values())
