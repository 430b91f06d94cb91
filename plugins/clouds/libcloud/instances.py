"""What the ways of speaking to a provider have in common: an instance, a call, a refusal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from isoneph.core.errors import CloudError
from isoneph.core.model import Leftover, Vm, VmRequest, VmState
from isoneph.plugins.clouds.libcloud.transport import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A VM as its provider shows it. ``state`` is None when it is gone for good and the provider
    only remembers it."""

    cloud_id: str
    name: str
    state: VmState | None
    tags: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fault: str | None = None
    fault_code: str | None = None


#: What only a cloud has, and no type.
CLOUD_OPTIONS = frozenset({"host", "port", "path", "secure", "ca_file", "proxy_url"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is being done, for the messages and for what an error means: ``changing`` when it may
    have been done although no answer came; ``request`` when a VM is to be created."""

    cloud: str
    doing: str
    changing: bool = False
    request: VmRequest | None = None

    def place(self, *options: str) -> str:
        """Where options of the type, or else of the cloud, stand in the configuration."""
        if self.request is None or set(options) <= CLOUD_OPTIONS:
            where = f"clouds.yaml: clouds.{self.cloud}"
        else:
            application, kind = self.request.application, self.request.type.name
            where = f"application {application}: types.{kind}.options"
        return f"{where}.{options[0]}" if len(options) == 1 else f"{where}: {', '.join(options)}"

    def account(self) -> str:
        """Where our credentials stand in the configuration."""
        return f"clouds.yaml: clouds.{self.cloud}: access_key, secret_key"


class Told(NamedTuple):
    """What an error amounts to."""

    kind: type[CloudError]
    text: str
    retry_after: float | None = None


#: Everything that a create is told, looked up and checked: to be handed to ``create`` as it is.
Order = Mapping[str, Any]


class Dialect(ABC):
    """How one family of providers is spoken to. Safe for threads: each call has its own line.

    The methods raise what libcloud raises, and :meth:`told` says what that means.
    """

    #: Whether a create that is sent again makes no second VM.
    idempotent = False
    #: Seconds within which the provider may not show everywhere what it has just made.
    settling = 0.0

    @abstractmethod
    def order(self, line: Line, request: VmRequest, user_data: str | None) -> Order:
        """What is to be asked for. Raises WrongOption for what is not there."""

    @abstractmethod
    def create(self, line: Line, request: VmRequest, order: Order) -> Instance:
        """Have a VM made, in one call."""

    @abstractmethod
    def instances(self, line: Line, application: str) -> Iterable[Instance]:
        """At least all VMs of an application."""

    @abstractmethod
    def by_id(self, line: Line, cloud_ids: Collection[str]) -> Iterable[Instance]:
        """Those of these VMs that the provider knows, the gone included."""

    @abstractmethod
    def delete(self, line: Line, vm: Vm) -> bool:
        """Have a VM removed. False when the provider knows no such VM."""

    @abstractmethod
    def count(self, line: Line) -> int:
        """All VMs of the account."""

    def most(self, line: Line) -> int | None:
        """How many VMs the account may have, if the provider tells."""
        return None

    def leftovers(self, line: Line, application: str) -> Iterable[Leftover]:
        """See :meth:`~isoneph.core.plugin.Cloud.list_leftovers`; those of VMs that are there may
        be among them."""
        return ()

    def delete_leftover(  # noqa: B027 (where nothing is left behind there is nothing to do)
        self, line: Line, leftover: Leftover
    ) -> None:
        """See :meth:`~isoneph.core.plugin.Cloud.delete_leftover`."""

    @abstractmethod
    def told(self, error: Exception, call: Call, line: Line | None) -> Told | None:
        """What an error of libcloud means; None for what it should never have raised."""

    @abstractmethod
    def forget(self) -> None:
        """Look everything up anew that a type's options name."""
