r"""How an application's VMs stand at its relay, and what that means for their life.

The life of a VM that a relay brings traffic to::

                     the cloud's states                       the relay's, over ACTIVE
    placed -> BUILDING -> ACTIVE --told to the relay--> READY <--sessions--> SERVING
                 |          ^  \--relay finds it unwell--/ |                  |
                 |          \------------------------------/                  |
                 |                                     delete, scale-in      |
               delete                                         |              |
                 |                                            v              v
                 |                      no session <----- (marked at the relay)
                 v                          |                  | sessions
               gone <-----------------------+------------- DRAINING
                                 sessions over, or its time

A VM drains from the moment that this is written, in the ledger and at the relay, which both keep
it over a restart; it cannot be taken back. The ledger of a single process is gone with it, and is
filled again from the relay: see :meth:`Relayed.look`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import replace

import msgspec

from isoneph.core.errors import IsonephError, RelayError, RelayUnreachable, StoreError
from isoneph.core.fleet import Fleet
from isoneph.core.ledger import DOUBT_FOR, LEAVING, Book, Entry, Ledger, Phase
from isoneph.core.model import RelayView, Vm, VmState
from isoneph.core.plugin import Clock, Store
from isoneph.core.relaying import Member, RelayWay, Standing
from isoneph.core.settings import ApplicationSettings, RelaySettings

LOG = logging.getLogger(__name__)

#: Cloud states of a VM that may have sessions.
SERVING_STATES = frozenset({VmState.ACTIVE, VmState.UNKNOWN})
#: Cloud states that say more than that the VM is being removed.
_FINAL_STATES = frozenset({VmState.ERROR, VmState.DELETING})
#: Seconds for which other replicas believe what the one that leads told them.
TOLD_FOR = 15.0


def placement_of(vm: Vm) -> str:
    """Tells this placement of a VM from others of the same id."""
    return f"{vm.cloud}/{vm.cloud_id}"


class _Told(msgspec.Struct):
    """What the leading replica tells the others, when (seconds since the epoch)."""

    at: float
    standing: Standing
    error: str = ""


class Relayed:
    """The VMs of one application as its relay sees them. For the tasks of one event loop."""

    def __init__(
        self,
        settings: ApplicationSettings,
        relay: RelaySettings,
        way: RelayWay,
        fleet: Fleet,
        ledger: Ledger,
        store: Store,
        clock: Clock,
    ) -> None:
        self.settings = relay
        self.way = way
        #: Whether this replica's engine is the one that drives the relay.
        self.leading = False
        #: What the relay said last, and why it says nothing now.
        self.standing = Standing()
        self.error: IsonephError | None = None
        #: Placements that this process has removed, while the relay has them.
        self.removed: set[str] = set()
        self._complaints: dict[str, str] = {}
        self._application = settings
        self._fleet = fleet
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._looked_at = float("-inf")
        self._look_began = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._shown: tuple[object, Sequence[Vm]] | None = None

    @property
    def is_blank(self) -> bool:
        """Whether a relay in the engine has backends of which nobody remembers any. It is told
        nothing until each cloud has been listed: it would take the others' away."""
        return not (self.way.remote or self.standing.settled or self.standing.members)

    @property
    def talks(self) -> bool:
        """Whether this process speaks to the relay itself. With a shared store one does, and
        tells the others."""
        return self.leading or (self.way.remote and not self._ledger.shared)

    def lead(self, *, leading: bool) -> None:
        """This replica's engine drives the relay from now on, or does no more."""
        if leading is not self.leading:
            self.leading = leading
            self._looked_at = float("-inf")

    async def look(self, max_age: float) -> None:
        """Have known how the relay stands, at most ``max_age`` seconds ago; when it does not
        answer in time, ``error`` says so and what it said last stays.

        The ledger learns here which VMs drain by the relay's word.
        """
        if self._looked_at > self._clock.monotonic() - max_age:
            return
        if self._looking is None:
            self._look_began = self._clock.monotonic()
            self._looking = asyncio.create_task(self._look(self._look_began))
        # What has been hanging for long is not waited for again and again.
        owed = self._clock.monotonic() - self._look_began
        left = max(0.0, self._application.patience - owed)
        done, _pending = await asyncio.wait((self._looking,), timeout=left)
        if not done:
            self.error = RelayUnreachable(f"no answer from the relay for {owed + left:.1f} s")

    async def ask(self, verb: str, call: Awaitable[Standing]) -> bool:
        """Take in what one of the relay's verbs comes to; whether it was done. A complaint is
        logged when it is new."""
        name = self._application.name
        try:
            standing = await call
        except RelayError as error:
            if self._complaints.get(verb) != error.message:
                LOG.warning("%s: %s: %s: %s", name, verb, error.code, error.message)
            self._complaints[verb] = error.message
            if verb == "status" or isinstance(error, RelayUnreachable):
                self.error = error
            return False
        if self._complaints.pop(verb, None) is not None:
            LOG.info("%s: %s: the relay does it again", name, verb)
        self._take(standing, None)
        return True

    def carries(self, vm: Vm) -> bool:
        """Whether the relay is to bring traffic to a VM, for its type; or lets it drain, of a type
        that it brought traffic to before."""
        if self.settings.types is None or vm.type in self.settings.types:
            return True
        return self._is_member(vm) and self.draining_since(vm) is not None

    def member(self, vm: Vm) -> Member | None:
        """A VM as a backend; None while it has no address on the relay's network."""
        networks = vm.addresses
        name = self.settings.network or next(iter(networks), "")
        addresses = networks.get(name)
        if not addresses:
            return None
        return Member(
            id=vm.id,
            placement=placement_of(vm),
            addresses=tuple(addresses),
            name=vm.name,
            cloud=vm.cloud,
            weight=self.settings.weights.get(vm.type, 1.0),
        )

    def draining_since(self, vm: Vm) -> float | None:
        """Since when a VM drains, None when it does not."""
        entry = self._ledger.book.get(vm.id, vm.cloud)
        if entry is not None and entry.phase is Phase.DRAINING:
            return entry.at
        return self.standing.draining.get(vm.id) if self._is_member(vm) else None

    def may_have_sessions(self, vm: Vm) -> bool:
        """Whether a delete of this VM must ask the relay first."""
        return vm.state in SERVING_STATES and (self.carries(vm) or self._is_member(vm))

    def sessions(self, vm: Vm) -> int | None:
        """How many a VM has, None when that is not known."""
        status = self.standing.status.get(vm.id)
        return None if status is None or not self._is_member(vm) else status.sessions

    def draining(self, vm: Vm) -> Entry:
        """The ledger's entry of a VM that drains from now on, or has since longer."""
        since = self.draining_since(vm)
        lasts = self.settings.drain + DOUBT_FOR
        return self._ledger.entry(vm.id, vm.cloud, vm.type, Phase.DRAINING, lasts, since)

    def check(self) -> None:
        """That a drain which begins here is remembered. Raises RelayUnreachable in a process
        that has neither the relay nor a store that others read."""
        if not (self.talks or self._ledger.shared):
            raise RelayUnreachable(
                f"the {self.settings.driver} relay runs in the engine of a service, which does "
                "not lead here: ask the service, or have the VM removed without draining"
            )

    async def begin(self, vm: Vm) -> bool:
        """Have a VM drain, of which the ledger says so already; whether it must be waited for.

        A relay that does not answer is not waited for longer than ``patience``, and not by one
        delete after the other: the engine's next round tells it what the ledger says.
        """
        since, patience = self.draining(vm).at, self._application.patience
        if not self.talks:
            return True
        if self.error is not None:
            await self.look(self._application.freshness)
        if isinstance(self.error, RelayUnreachable):
            return True
        try:
            async with asyncio.timeout(patience):
                if not await self.ask("drain", self.way.drain({vm.id: since})):
                    return True
        except TimeoutError:
            self.error = RelayUnreachable(f"no answer from the relay for {patience:.1f} s")
            return True
        return self.is_blank or (self._is_member(vm) and self.sessions(vm) != 0)

    def remembers(self, vm: Vm) -> bool:
        """Whether that a VM drains is written where it outlives this process."""
        standing = self.standing
        is_marked = self._is_member(vm) and vm.id in standing.draining and standing.settled
        return is_marked or self._ledger.shared

    def note_removed(self, vm: Vm) -> None:
        """The cloud has accepted the VM's removal."""
        if self._is_member(vm):
            self.removed.add(placement_of(vm))

    def show(self, vm: Vm) -> Vm:
        """A VM with the relay's view of it, and the state that this makes."""
        if not self.carries(vm):
            return vm
        status = self.standing.status.get(vm.id) if self._is_member(vm) else None
        since = self.draining_since(vm)
        view = RelayView(
            ready=status is not None and status.ready,
            sessions=None if status is None else status.sessions,
            text=self._why_not(vm) if status is None else status.text,
            draining_since=since,
            drain_deadline=None if since is None else since + self.settings.drain,
            stale=self.error is not None,
        )
        return replace(vm, state=_state(vm.state, view), relay=view)

    def show_all(self, vms: Sequence[Vm]) -> Sequence[Vm]:
        """:meth:`show` for a whole listing; the same list again while nothing has changed."""
        drains = [entry for entry in self._ledger.book if entry.phase is Phase.DRAINING]
        seen = (vms, self.standing, self.error is None, drains)
        if self._shown is None or self._shown[0] != seen:
            self._shown = (seen, tuple(self.show(vm) for vm in vms))
        return self._shown[1]

    async def publish(self) -> None:
        """Tell the other replicas what the relay says; for the one that leads."""
        if not self._ledger.shared:
            return
        error = "" if self.error is None else self.error.message
        told = _Told(self._clock.time(), self.standing, error)
        try:
            await self._store.put(self._key, msgspec.json.encode(told), ttl=10 * TOLD_FOR)
        except StoreError as problem:
            LOG.warning("other replicas are not told of the relay: %s", problem.message)

    async def close(self) -> None:
        """Look no more, until somebody asks again."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    @property
    def _key(self) -> str:
        return f"relay/{self._application.name}"

    async def _look(self, begun: float) -> None:
        try:
            answered = True
            if self.talks:
                answered = await self.ask("status", self.way.status())
                await self._adopt()
            elif self._ledger.shared:
                await self._hear()
            if answered:  # else it is asked again at once: it may be back
                self._looked_at = begun
        except StoreError as error:
            LOG.warning("%s: drains are not looked up: %s", self._application.name, error.message)
        finally:
            self._looking = None

    async def _hear(self) -> None:
        """Read what the leading replica tells."""
        stored = await self._store.get(self._key)
        if stored is None:
            self.error = RelayUnreachable("no engine has told of the relay yet")
            return
        try:
            told = msgspec.json.decode(stored.value, type=_Told)
        except msgspec.MsgspecError as problem:
            self.error = RelayUnreachable(f"what the engine tells cannot be read: {problem}")
            return
        error = told.error
        if self._clock.time() - told.at > TOLD_FOR:
            error = "the engine has not told of the relay for a while"
        self._take(told.standing, RelayUnreachable(error) if error else None)

    def _take(self, standing: Standing, error: IsonephError | None) -> None:
        if standing != self.standing:
            self.standing = standing
        if self.removed:
            self.removed &= {member.placement for member in standing.members.values()}
        if error is None and self.is_blank:
            error = RelayUnreachable("what the relay's backends are is not known yet")
        self.error = error

    async def _adopt(self) -> None:
        """What drains by the relay's word and not by the ledger's: this process, or the store,
        has forgotten it."""
        missing = [
            vm
            for vm_id in self.standing.draining
            for vm in self._fleet.copies(vm_id)[:1]
            if self._is_member(vm) and not _leaving(self._ledger.book, vm)
        ]
        if not missing:
            return

        def adopt(book: Book) -> None:
            for vm in missing:
                if not _leaving(book, vm):
                    book.set(self.draining(vm))

        await self._ledger.update(adopt)
        LOG.info("%s: %d VMs drain by the relay's word", self._application.name, len(missing))

    def _is_member(self, vm: Vm) -> bool:
        member = self.standing.members.get(vm.id)
        return member is not None and member.placement == placement_of(vm)

    def _why_not(self, vm: Vm) -> str:
        if vm.state is VmState.ACTIVE and self.member(vm) is None:
            wanted = f"on network {self.settings.network}" if self.settings.network else "yet"
            return f"it has no address {wanted}"
        return "the relay does not know it yet"


def _leaving(book: Book, vm: Vm) -> bool:
    entry = book.get(vm.id, vm.cloud)
    return entry is not None and entry.phase in LEAVING


def _state(state: VmState, view: RelayView) -> VmState:
    """The cloud's state with the relay's over it."""
    if view.draining_since is not None and state not in _FINAL_STATES:
        return VmState.DRAINING
    if state is VmState.ACTIVE and view.ready:
        return VmState.SERVING if view.sessions else VmState.READY
    return state
