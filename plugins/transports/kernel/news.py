"""What the kernel tells of an association, handed on by what it means for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from isoneph.core.traffic import Notice
from isoneph.plugins.transports.kernel import notifications

if TYPE_CHECKING:
    from isoneph.plugins.transports.kernel.owner import Owner


class Subject(Protocol):
    """The association that the kernel tells of."""

    def on_complete(self) -> None:
        """Both sides have closed it."""

    def on_lost(self, causes: bytes) -> None:
        """It was aborted, by the peer or by the kernel here, or the peer does not answer.
        ``causes`` are the reasons of an ABORT that came."""

    def on_restart(self, streams_in: int, streams_out: int) -> None:
        """The peer has started anew, with so many streams."""

    def on_address_change(self) -> None:
        """An address of the peer's has come, gone or changed."""

    def on_given_up(self) -> None:
        """The rest of the message that comes in parts will never come."""

    def tell(self, notice: Notice, text: str = "") -> None:
        """This is for who uses it."""


class News:
    """The notifications of one association. Those that cannot be used are counted."""

    __slots__ = ("_cut", "_owner", "_subject")

    def __init__(self, owner: Owner, subject: Subject) -> None:
        self._owner = owner
        self._subject = subject
        #: Whether a notification was read of which more comes.
        self._cut = False

    def take(self, data: bytes, whole: bool) -> None:
        """A notification has come, or a part of one, which is no use; ``whole`` where it ends."""
        cut, self._cut = self._cut, not whole
        try:
            event = notifications.parse(data if whole and not cut else b"")
        except notifications.Unreadable as error:
            self._owner.environment.metrics.count("notifications_ignored", reason=error.why)
            return
        match event:
            case notifications.AssociationChange():
                self._association_changed(event)
            case notifications.PeerAddressChange():
                self._subject.on_address_change()
                self._subject.tell(Notice.ADDRESS_CHANGED, f"{event.address} is {event.words}")
            case notifications.ShutdownEvent():
                self._subject.tell(Notice.SHUTDOWN)
            case notifications.SendFailed():
                text = f"{event.size} bytes on stream {event.stream}"
                text = f"{text}{'' if event.sent else ', never sent'}"
                self._subject.tell(Notice.SEND_FAILED, text)
            case notifications.PartialDelivery():
                self._subject.on_given_up()

    def _association_changed(self, event: notifications.AssociationChange) -> None:
        if event.state == notifications.AssociationState.SHUTDOWN_COMPLETE:
            self._subject.on_complete()
        elif event.state == notifications.AssociationState.LOST:
            self._subject.on_lost(event.causes)
        elif event.state == notifications.AssociationState.RESTARTED:
            self._subject.on_restart(event.streams_in, event.streams_out)
