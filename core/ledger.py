r"""What was decided lately and is not yet, or not surely, to be seen in the clouds' listings.

A create counts from the moment it is decided, long before a listing shows the VM; so does a
delete. The ledger of an application holds these few decisions. With a shared store all replicas
write one ledger by compare-and-set, so that a burst of creates balances as if they had come one
by one to one process. Losing it loses no VM: within seconds the listings know everything.

The life of an entry, one for each VM id and cloud::

    CREATING --answer--> CREATED --(expires: listings show it)
       |  \--refusal--> (removed)
       \--answer lost--> DOUBTFUL --request failed or VM deleted--> ABANDONED
    any --picked to be deleted--> CHOSEN --nothing came of it--> (as before)
    any --VM deleted--> DELETED --no listing shows it--> (removed)
       \--that has sessions--> DRAINING --they are over, or its time is--> DELETED
    ABANDONED, DELETED --engine sees it twice--> REAPING --deleted again--> DELETED
    ABANDONED --same idempotency key comes again--> (removed: the VM is wanted after all)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator
from enum import StrEnum
from typing import TypeVar

import msgspec

from isoneph.core.errors import StoreUnavailable, VersionConflict
from isoneph.core.plugin import Clock, Store

T = TypeVar("T")

#: Seconds that a settled decision stays, until every replica's listing is younger than it.
SETTLED_FOR = 30.0
#: Seconds that a doubt, or a delete that its cloud is slow to carry out, stays: a cloud that comes
#: back later than this shows what it shows.
DOUBT_FOR = 86400.0
#: Tries to write the ledger while other replicas write it too.
ATTEMPTS = 100


class Phase(StrEnum):
    """See the module's drawing."""

    CREATING = "creating"
    CREATED = "created"
    DOUBTFUL = "doubtful"
    CHOSEN = "chosen"
    DELETED = "deleted"
    DRAINING = "draining"
    ABANDONED = "abandoned"
    REAPING = "reaping"


#: Phases of what is not wanted any more and may still be listed.
LEAVING = frozenset({Phase.CHOSEN, Phase.DELETED, Phase.DRAINING, Phase.REAPING})
#: Phases of what nobody wants: it is not placed again, and removed when it stays.
UNWANTED = frozenset({Phase.ABANDONED, Phase.DELETED, Phase.REAPING})


class Entry(msgspec.Struct, frozen=True):
    """One decision; times are seconds since the epoch on the deciding replica's clock."""

    id: str
    cloud: str
    type: str
    phase: Phase
    at: float
    expires: float


class Book(msgspec.Struct):
    """The decisions by VM id and cloud, oldest first."""

    entries: dict[str, Entry] = {}

    def get(self, vm_id: str, cloud: str) -> Entry | None:
        """The entry of a VM on a cloud."""
        return self.entries.get(f"{vm_id}@{cloud}")

    def of_vm(self, vm_id: str) -> list[Entry]:
        """All entries of a VM."""
        return [entry for entry in self if entry.id == vm_id]

    def set(self, entry: Entry) -> None:
        """Write an entry; it becomes the youngest."""
        key = f"{entry.id}@{entry.cloud}"
        self.entries.pop(key, None)
        self.entries[key] = entry

    def drop(self, vm_id: str, cloud: str) -> None:
        """Remove an entry, if it is there."""
        self.entries.pop(f"{vm_id}@{cloud}", None)

    def forget(self, entries: Iterable[Entry]) -> None:
        """Drop entries that are still as they are given."""
        for entry in entries:
            if self.get(entry.id, entry.cloud) == entry:
                self.drop(entry.id, entry.cloud)

    def prune(self, now: float) -> None:
        """Drop what has expired."""
        expired = [key for key, entry in self.entries.items() if entry.expires < now]
        for key in expired:
            del self.entries[key]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())


class Ledger:
    """One application's ledger. For the tasks of one event loop.

    With a store that no other process shares, the book simply stays in memory.
    """

    def __init__(self, store: Store, clock: Clock, application: str) -> None:
        self._store = store
        self._clock = clock
        self._key = f"ledger/{application}"
        self._lock = asyncio.Lock()
        self._book = Book()
        self._version = 0

    @property
    def shared(self) -> bool:
        """Whether other replicas write the same ledger."""
        return self._store.shared

    @property
    def book(self) -> Book:
        """The decisions as this replica last saw them."""
        return self._book

    async def update(self, change: Callable[[Book], T]) -> T:
        """Apply ``change`` to the current book, as one step among all replicas.

        ``change`` may be called again when another replica wrote first, each time on the book
        as it then is. Raises what ``change`` raises (nothing is written then) and
        StoreUnavailable.
        """
        async with self._lock:
            if not self.shared:
                self._book.prune(self._clock.time())
                return change(self._book)
            for _ in range(ATTEMPTS):
                await self._read()
                self._book.prune(self._clock.time())
                result, wrote = await self._apply(change)
                if wrote:
                    return result
        raise StoreUnavailable("the ledger is written by others all the time; try again")

    async def refresh(self) -> Book:
        """The book with what other replicas wrote. Raises StoreUnavailable."""
        if self.shared:
            async with self._lock:
                await self._read()
        return self._book

    def covered(self, cloud: str, since: float, listed: Container[str]) -> None:
        """A listing of ``cloud`` that began at ``since`` (seconds since the epoch) is in, with the
        VMs ``listed``: those created before, and those deleted well before that are not listed,
        need no entry in a ledger that only this process reads. One that was created and is not
        listed may be shown late."""
        if self.shared:
            return
        done = [
            key
            for key, entry in self._book.entries.items()
            if entry.cloud == cloud and _is_covered(entry, since, listed)
        ]
        for key in done:
            del self._book.entries[key]

    def entry(
        self,
        vm_id: str,
        cloud: str,
        type_name: str,
        phase: Phase,
        lasts: float,
        at: float | None = None,
    ) -> Entry:
        """A new entry that expires after ``lasts`` seconds, of now or of an earlier moment."""
        now = self._clock.time()
        return Entry(vm_id, cloud, type_name, phase, now if at is None else at, now + lasts)

    def abandoned(self, vm_id: str, cloud: str, type_name: str) -> Entry:
        """The entry of what may appear on a cloud and has no owner."""
        return self.entry(vm_id, cloud, type_name, Phase.ABANDONED, DOUBT_FOR)

    async def _read(self) -> None:
        stored = await self._store.get(self._key)
        version = 0 if stored is None else stored.version
        if version != self._version or stored is None:
            self._book = Book() if stored is None else msgspec.json.decode(stored.value, type=Book)
            self._version = version

    async def _apply(self, change: Callable[[Book], T]) -> tuple[T, bool]:
        try:
            result = change(self._book)
        except BaseException:
            self._version = -1  # the book in memory may be half changed: read it again
            raise
        value = msgspec.json.encode(self._book)
        try:
            self._version = await self._store.put(self._key, value, expect=self._version)
        except VersionConflict:
            self._version = -1
            return result, False
        except BaseException:
            self._version = -1
            raise
        return result, True


def _is_covered(entry: Entry, since: float, listed: Container[str]) -> bool:
    if entry.phase is Phase.CREATED:
        return entry.at < since and entry.id in listed
    is_settled = entry.at < since - SETTLED_FOR
    return entry.phase is Phase.DELETED and is_settled and entry.id not in listed
