"""Every plugin interface: the public API for third parties.

A plugin is a class that an installed package names in the entry-point group
``isoneph.<kind>``; configuration then asks for it by name. This module, with
:mod:`isoneph.core.model`, :mod:`isoneph.core.identity` and :mod:`isoneph.core.errors`, is all
that a plugin may import from isoneph at run time; its tests add :mod:`isoneph.core.testing`.

What holds for every kind:

- ``schema`` is the voluptuous schema of its options, a mapping whose markers carry
  ``description``: it validates the configuration and becomes the plugin's reference page.
- The constructor takes the validated options and an :class:`Environment`, and does no I/O.
- ``start`` opens what it needs, ``close`` lets it go; ``close`` may be called without ``start``.
- The first line of the class's docstring is its summary in ``isoneph plugin list``.

=============  ==================  =====================================================
kind           class               called
=============  ==================  =====================================================
``clouds``     :class:`Cloud`      in threads, several at once; may block; has a deadline
``placement``  :class:`Placement`  on the event loop: pure, quick
``victims``    :class:`Victims`    on the event loop: pure, quick
``stores``     :class:`Store`      on the event loop, asynchronous
=============  ==================  =====================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from logging import Logger
from typing import Any, ClassVar, NamedTuple, Protocol

from isoneph.core.model import (
    Candidate,
    Finding,
    Leftover,
    Limits,
    PlacementRequest,
    Preparation,
    VictimCandidate,
    VictimRequest,
    Vm,
    VmRequest,
    Weight,
)

#: A voluptuous schema in its mapping form.
OptionSchema = Mapping[Any, Any]


class Clock(Protocol):
    """Time, handed in so that tests can hold it."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def pause(self, seconds: float) -> None:
        """Block the calling thread; for plugins that run in threads."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task."""


class Metrics(Protocol):
    """Where a plugin's figures go; the core adds the plugin's kind and name as labels."""

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter. ``name`` is without unit prefix or ``_total``: ``calls``."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the core hands to a plugin.

    ``name`` is the instance's name in the configuration (a cloud's, for a cloud driver);
    ``timeout`` the seconds a single call may take, for plugins that talk to something: after
    them the core gives up on the call, so a plugin's own time-outs should be a little shorter.
    """

    name: str
    clock: Clock
    logger: Logger
    metrics: Metrics
    timeout: float = 30.0


class Plugin(ABC):  # noqa: B024 (its kinds declare the abstract methods)
    """What all kinds share."""

    schema: ClassVar[OptionSchema] = {}

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        self.options = options
        self.environment = environment

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """What is wrong with options that passed the schema one by one but do not go together;
        a sentence each, told with the place in the configuration."""
        return ()


class BlockingPlugin(Plugin):
    """A plugin whose ``start`` and ``close`` run in a thread and may block.

    ``start`` may come twice, and again after ``close``.
    """

    def start(self) -> None:
        """Open what is needed. An error here stops the service with that error."""

    def close(self) -> None:
        """Let everything go. Safe to call twice, and without ``start``."""


class Cloud(BlockingPlugin):
    """A driver for one cloud (``isoneph.clouds``), shared by all applications that use it.

    The methods are called from several threads at once. They raise the subclasses of
    :class:`~isoneph.core.errors.CloudError` and nothing else; anything else counts as a fault
    of the driver, and of a create as an outcome unknown. They raise ``Unreachable`` only when
    nothing can have been done, ``OutcomeUnknown`` when a create or delete may have been.

    Each VM carries ``VmRequest.tags`` in the cloud's own metadata. The driver never returns,
    changes or removes anything that does not carry them (:meth:`Vm.from_tags` tells). Where a
    cloud may give the same ``cloud_id`` out again, that includes what now stands under the
    ``cloud_id`` of a VM that is gone.
    """

    #: What a VM type must say to be created here; also validates each application's types.
    type_schema: ClassVar[OptionSchema] = {}
    #: How an application describes what is to be there first; empty when nothing can be prepared.
    prepare_schema: ClassVar[OptionSchema] = {}

    @classmethod
    def takes(cls, options: Mapping[str, Any]) -> Mapping[str, float]:
        """What a VM with these type options takes of the limits that :meth:`get_limits` tells,
        as far as the options alone tell it; what the configuration says goes before."""
        return {}

    @classmethod
    def preparation_problems(
        cls, options: Mapping[str, Any], clouds: Sequence[str]
    ) -> Sequence[str]:
        """What is wrong with a description that passed ``prepare_schema`` part by part, for the
        application's ``clouds`` of this driver; a sentence each."""
        return ()

    @abstractmethod
    def create_vm(self, request: VmRequest) -> Vm:
        """Ask for a VM and return it as soon as the cloud has accepted, while it builds.

        Called once for each VM and attempt: the driver does not repeat the call on its own
        unless the cloud offers idempotency for it (``request.id`` with ``attempt`` in the tags).
        """

    @abstractmethod
    def get_vm(self, vm: Vm) -> Vm | None:
        """The VM as it is now, or None when the cloud is sure that it is gone."""

    @abstractmethod
    def list_vms(self, application: str) -> Sequence[Vm]:
        """All VMs of ``application`` on this cloud, building and failed ones too, in one bulk
        call. VMs of others are left out."""

    @abstractmethod
    def delete_vm(self, vm: Vm) -> None:
        """Have the VM removed; return when the cloud has accepted. Deleting the gone succeeds."""

    @abstractmethod
    def get_limits(self) -> Limits:
        """The project's limits and what everybody uses of them; empty when it has none."""

    def prepare(self, preparation: Preparation, admin: Cloud | None = None) -> Iterator[Finding]:
        """Compare the cloud with a description, and with ``change`` make it so; a finding for
        each thing, as soon as it is known.

        ``admin`` is the same cloud with an administrator's credentials, where there are any.
        Safe to repeat and to break off: what was done stays done. Raises the CloudError that
        keeps it from going on; what concerns one thing alone is a finding.
        """
        return iter(())

    def list_leftovers(self, application: str) -> Sequence[Leftover]:
        """What finished or failed VMs of ``application`` left behind: provably ours, and held by
        no VM that is there, not even by one of the same id. The core removes what it sees twice,
        a grace apart."""
        return ()

    def delete_leftover(self, leftover: Leftover) -> None:
        """Remove one leftover. Removing the gone succeeds."""


class Policy(BlockingPlugin):
    """What placement and victim policies share.

    ``reject`` and ``weigh`` are pure functions of their arguments, the options and what
    ``start`` or ``refresh`` read; they are called on the event loop, once for each candidate
    of each decision, and take microseconds.
    """

    @classmethod
    def named_clouds(cls, options: Mapping[str, Any]) -> Collection[str]:
        """The names in the options that can only be clouds of the application, so that the
        configuration can tell of one that is misspelt."""
        return ()

    def refresh(self) -> None:
        """Called in a thread every few seconds: the place to read a file or a service again.
        An error is logged, and the policy goes on with what it had."""


class Placement(Policy):
    """A placement policy (``isoneph.placement``): which cloud gets the next VM."""

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """Why this candidate cannot be taken, in words for a person, or None when it can."""
        return None

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """How good this candidate is: any finite scale, higher is better. The core brings the
        values of one decision to 0..1 before it applies the configured weight."""
        return Weight(0.0, "no preference")


class Victims(Policy):
    """A victim policy (``isoneph.victims``): which VM goes when the application needs fewer."""

    def reject(self, candidate: VictimCandidate, request: VictimRequest) -> str | None:
        """Why this VM must stay, or None."""
        return None

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        """How well this VM can be spared; scale as in :meth:`Placement.weigh`."""
        return Weight(0.0, "no preference")


class Versioned(NamedTuple):
    """A stored value and the version that a compare-and-set must name to replace it."""

    value: bytes
    version: int


class Store(Plugin):
    """What several replicas coordinate through (``isoneph.stores``); never the only place where
    a VM is known.

    Keys are text of at most 200 characters, values at most 16 MiB. Versions of one key grow,
    also over deletion, expiry and restarts.
    Raises :class:`~isoneph.core.errors.StoreUnavailable` when it cannot answer in
    ``environment.timeout``; a put or delete may then have been done or not. Safe for many tasks
    of one event loop, not for several loops.
    """

    #: Whether other processes see what is put here.
    shared: ClassVar[bool] = True

    async def start(self) -> None:
        """Connect. An error here stops the service with that error."""

    async def close(self) -> None:
        """Disconnect. Safe to call twice, and without ``start``."""

    @abstractmethod
    async def get(self, key: str) -> Versioned | None:
        """The value under ``key``, or None when there is none or it has expired."""

    @abstractmethod
    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, ttl: float | None = None
    ) -> int:
        """Write ``value`` and return its version.

        ``expect`` is the version that must be there now (0: nothing may be there; None: write
        whatever is there), else :class:`~isoneph.core.errors.VersionConflict`. After ``ttl``
        seconds (None: never) the key is gone.
        """

    @abstractmethod
    async def delete(self, key: str, *, expect: int | None = None) -> None:
        """Remove ``key``; ``expect`` as in :meth:`put`. Deleting what is gone succeeds when
        ``expect`` is None or 0."""

    @abstractmethod
    async def scan(self, prefix: str) -> Sequence[str]:
        """The keys that begin with ``prefix``, in any order, at one moment or nearly so."""


#: The class that a plugin of each kind derives from.
KINDS: Mapping[str, type[Plugin]] = {
    "clouds": Cloud,
    "placement": Placement,
    "victims": Victims,
    "stores": Store,
}
