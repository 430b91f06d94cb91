"""Every error that isoneph raises, and what each of them steers.

::

    IsonephError
    ├── ConfigInvalid             a configuration with one or more problems
    ├── PluginError
    │   ├── PluginMissing         no installed package offers a plugin of that name
    │   ├── PluginBroken          the entry point is there, importing it failed
    │   ├── PluginDoubled         two packages offer the same name
    │   └── PluginFailed          a plugin broke its contract while it was used
    ├── RequestError              the caller's request cannot be carried out as it stands
    │   ├── UnknownApplication
    │   ├── UnknownCloud
    │   ├── UnknownType
    │   ├── UnknownVm
    │   ├── KeyReused             an idempotency key came back with another request
    │   ├── VmLeaving             the VM drains and will be removed
    │   └── BadRequest            anything else that is wrong with the request
    ├── CloudError                what a cloud answered, or failed to answer
    │   ├── QuotaExceeded         the project's own limit: others may still have room
    │   ├── NoCapacity            the cloud has no room for this type now
    │   ├── InvalidRequest        the cloud will never take this request
    │   ├── Unauthorized          the cloud does not take our credentials
    │   ├── Throttled             too many calls; ``retry_after`` says when to come back
    │   ├── Unreachable           no answer, and surely nothing was done
    │   ├── OutcomeUnknown        no answer, and something may have been done
    │   ├── BootFailed            the create was accepted, the VM ended in ERROR
    │   └── BrokeDown             the VM had booted, and ended in ERROR later
    ├── PlacementFailed           no cloud was left to try; carries every reason
    ├── WaitTimeout               a VM did not reach the awaited state in time
    ├── StoreError
    │   ├── VersionConflict       somebody else wrote first
    │   ├── LeaseTaken            somebody else holds the lease, and did not let it go in time
    │   └── StoreUnavailable      the store does not answer
    ├── TransportError            a message transport could not do what was asked
    │   ├── TransportUnavailable  this machine cannot carry such messages
    │   ├── ListenFailed          an address cannot be listened on
    │   ├── ConnectFailed         an association could not be set up
    │   ├── AssociationClosed     it is over, or being closed
    │   ├── MessageTooLarge       larger than the transport's limit
    │   ├── BadStream             the association has no such stream
    │   └── QueueFull             more is queued than may be
    ├── RelayError                a relay could not do what was asked
    │   ├── RelayUnreachable      its process, or what it drives, does not answer
    │   └── RelayRefused          it does not take what it was told
    └── LinkError                 the link between a relay and a worker failed
        ├── ProtocolViolation     the other side sent what it may not
        ├── LinkRefused           the other side does not want us, or we not it
        ├── LinkDown              there is no link now
        └── LinkFull              more is queued on the link than may be

Every class has a stable ``code`` that the API, the logs and the metrics use. Of a
:class:`CloudError`, three class attributes steer what the balancer does next, so that a
driver only has to raise the right class:

``failover``
    the next candidate is tried;
``trips_breaker``
    the cloud's circuit breaker counts it as a failure of the cloud;
``blocks``
    what is left alone for a while: ``"type"`` (this VM type on this cloud), ``"cloud"``
    (the whole cloud) or ``None``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:  # the model imports nothing from here at run time, nor we from it
    from isoneph.core.model import Ranking, Refusal

Blocks = Literal["type", "cloud"]


class IsonephError(Exception):
    """The root of the tree: ``str(error)`` is one clear sentence for a person."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigInvalid(IsonephError):
    """A configuration that cannot be used; ``problems`` holds one line for each mistake."""

    code = "config_invalid"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__("\n".join([f"{count} {noun} in the configuration", *self.problems]))


class PluginError(IsonephError):
    """A plugin cannot be loaded or used."""

    code = "plugin_error"


class PluginMissing(PluginError):
    """No installed package offers a plugin of that kind and name."""

    code = "plugin_missing"


class PluginBroken(PluginError):
    """A plugin's entry point exists, but importing it failed."""

    code = "plugin_broken"


class PluginDoubled(PluginError):
    """Two installed packages offer a plugin of the same kind and name."""

    code = "plugin_doubled"


class PluginFailed(PluginError):
    """A plugin raised what its contract does not allow, or returned nonsense."""

    code = "plugin_failed"


class RequestError(IsonephError):
    """The caller's request cannot be carried out as it stands."""

    code = "bad_request"


class UnknownApplication(RequestError):
    """No application of that name is deployed."""

    code = "unknown_application"


class UnknownCloud(RequestError):
    """The application does not use a cloud of that name."""

    code = "unknown_cloud"


class UnknownType(RequestError):
    """The application has no VM type of that name."""

    code = "unknown_type"


class UnknownVm(RequestError):
    """The application has no VM with that id."""

    code = "unknown_vm"


class KeyReused(RequestError):
    """An idempotency key was used before, with a different request."""

    code = "idempotency_key_reused"


class VmLeaving(RequestError):
    """The VM drains and will be removed: it can be neither waited for nor had again."""

    code = "vm_leaving"


class BadRequest(RequestError):
    """The request is malformed or contradicts itself."""


class CloudError(IsonephError):
    """What a cloud answered, or failed to answer, to one call.

    Drivers raise the subclasses. ``cloud`` is filled in by the core.
    """

    code = "cloud_error"
    failover: ClassVar[bool] = True
    trips_breaker: ClassVar[bool] = False
    blocks: ClassVar[Blocks | None] = None

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.cloud: str | None = None
        #: Seconds after which the cloud asked to be called again, if it said so.
        self.retry_after = retry_after


class QuotaExceeded(CloudError):
    """The project's own limit on this cloud is reached."""

    code = "quota_exceeded"
    blocks = "type"


class NoCapacity(CloudError):
    """The cloud itself has no room for this type at the moment."""

    code = "no_capacity"
    blocks = "type"


class InvalidRequest(CloudError):
    """The cloud will never take this request: a mistake in the configuration or the request."""

    code = "invalid_request"
    failover = False


class Unauthorized(CloudError):
    """The cloud does not accept our credentials."""

    code = "unauthorized"
    trips_breaker = True


class Throttled(CloudError):
    """The cloud asks us to call less often."""

    code = "throttled"
    blocks = "cloud"


class Unreachable(CloudError):
    """The cloud gave no answer and nothing was done there."""

    code = "unreachable"
    trips_breaker = True


class OutcomeUnknown(CloudError):
    """The cloud gave no answer and may have done what was asked."""

    code = "outcome_unknown"
    trips_breaker = True


class BootFailed(CloudError):
    """The cloud accepted the create, and the VM ended in ERROR."""

    code = "boot_failed"
    blocks = "type"


class BrokeDown(CloudError):
    """The VM had booted and ended in ERROR later: that says nothing about its cloud."""

    code = "broke_down"


class PlacementFailed(IsonephError):
    """No cloud was left to try.

    ``ranking`` is the last ranking made, ``refusals`` what the clouds answered, in order.
    """

    code = "placement_failed"

    def __init__(
        self,
        message: str,
        *,
        ranking: Ranking,
        refusals: Sequence[Refusal],
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.ranking = ranking
        self.refusals = tuple(refusals)
        self.retry_after = retry_after


class WaitTimeout(IsonephError):
    """A VM did not reach the awaited state in the time given."""

    code = "wait_timeout"


class StoreError(IsonephError):
    """A store could not do what was asked."""

    code = "store_error"


class VersionConflict(StoreError):
    """The key holds another version than the one expected: somebody else wrote first."""

    code = "version_conflict"


class LeaseTaken(StoreError):
    """Somebody else holds the lease and did not let it go in the time given."""

    code = "lease_taken"


class StoreUnavailable(StoreError):
    """The store does not answer."""

    code = "store_unavailable"


class TransportError(IsonephError):
    """A message transport could not do what was asked."""

    code = "transport_error"


class TransportUnavailable(TransportError):
    """This machine cannot carry such messages."""

    code = "transport_unavailable"


class ListenFailed(TransportError):
    """An address cannot be listened on."""

    code = "listen_failed"


class ConnectFailed(TransportError):
    """An association could not be set up."""

    code = "connect_failed"


class AssociationClosed(TransportError):
    """The association is over, or being closed."""

    code = "association_closed"


class MessageTooLarge(TransportError):
    """The message is larger than the transport's limit."""

    code = "message_too_large"


class BadStream(TransportError):
    """The association has no such stream."""

    code = "bad_stream"


class QueueFull(TransportError):
    """More is queued on the association than may be."""

    code = "queue_full"


class RelayError(IsonephError):
    """A relay could not do what was asked."""

    code = "relay_error"


class RelayUnreachable(RelayError):
    """The relay's process, or what it drives, does not answer."""

    code = "relay_unreachable"


class RelayRefused(RelayError):
    """The relay does not take what it was told."""

    code = "relay_refused"


class LinkError(IsonephError):
    """The link between a relay and a worker failed."""

    code = "link_error"


class ProtocolViolation(LinkError):
    """The other side of a link sent what it may not; ``reason`` is a word for a counter."""

    code = "protocol_violation"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LinkRefused(LinkError):
    """One side of a link does not want the other; ``reason`` is a word for a counter."""

    code = "link_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LinkDown(LinkError):
    """There is no link to the relay now."""

    code = "link_down"


class LinkFull(LinkError):
    """More is queued on the link than may be."""

    code = "link_full"
