"""Who uses associations in tests: handlers that note what they are told, and a door for them."""
# ruff: noqa: S101 (asserts speak)

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from isoneph.core.plugin import Association, AssociationHandler
from isoneph.core.traffic import Ending, Message, Notification


class RecordingHandler:
    """Uses an association by noting all that it tells, for tests.

    ``calls`` has the name of each call; ``news`` is set at each one.
    """

    def __init__(self) -> None:
        self.association: Association | None = None
        self.messages: list[Message] = []
        self.notifications: list[Notification] = []
        self.writable: list[bool] = []
        self.endings: list[Ending] = []
        self.reasons: list[str] = []
        self.calls: list[str] = []
        self.news = asyncio.Event()

    @property
    def up(self) -> Association:
        """The association, which must have been opened."""
        assert self.association is not None, "the association was never opened"
        return self.association

    def opened(self, association: Association) -> None:
        """Note it."""
        assert self.association is None, "opened twice"
        self.association = association
        self._note("opened")

    def received(self, message: Message) -> None:
        """Note it."""
        self.messages.append(message)
        self._note("received")

    def writable_changed(self, writable: bool) -> None:
        """Note it."""
        self.writable.append(writable)
        self._note("writable_changed")

    def notified(self, notification: Notification) -> None:
        """Note it."""
        self.notifications.append(notification)
        self._note("notified")

    def closed(self, ending: Ending, reason: str) -> None:
        """Note it."""
        self.endings.append(ending)
        self.reasons.append(reason)
        self._note("closed")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.news.set()

    async def until(self, condition: Callable[[], object], timeout: float, what: str) -> None:  # noqa: ASYNC109 (fails with what was waited for)
        """Return when ``condition`` holds, looking after each call; fail after ``timeout``."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            pytest.fail(
                f"not in {timeout:g} s: {what}; the last calls: {self.calls[-5:]}, "
                f"notifications: {self.notifications[-3:]}, reasons: {self.reasons}"
            )


class EchoHandler(RecordingHandler):
    """Sends every message back as it came."""

    def received(self, message: Message) -> None:
        """Note it and send it back."""
        super().received(message)
        self.up.send(message)


class Door:
    """Accepts associations for tests: one that ``make`` gives uses each, all are kept."""

    def __init__(self, make: Callable[[], RecordingHandler | None] = RecordingHandler) -> None:
        self.make = make
        self.accepted: list[Association] = []
        self.handlers: list[RecordingHandler] = []
        self._news = asyncio.Event()

    def __call__(self, association: Association) -> AssociationHandler | None:
        """As the listener calls it."""
        self.accepted.append(association)
        handler = self.make()
        if handler is not None:
            self.handlers.append(handler)
            self._news.set()
        return handler

    async def until(self, count: int, timeout: float) -> None:  # noqa: ASYNC109 (fails with words)
        """Return when ``count`` handlers are in use; fail after ``timeout``."""
        try:
            async with asyncio.timeout(timeout):
                while len(self.handlers) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"not in {timeout:g} s: association {count} is accepted")


class OneByOne(RecordingHandler):
    """Pauses reading at each message."""

    def received(self, message: Message) -> None:
        """Note it."""
        super().received(message)
        self.up.pause_reading()


class Greeter(RecordingHandler):
    """Sends at once."""

    def opened(self, association: Association) -> None:
        """Greet."""
        super().opened(association)
        association.send(Message(b"welcome"))


class Quitter(RecordingHandler):
    """Ends the association at the first call of a kind."""

    def __init__(self, at: str, act: str) -> None:
        super().__init__()
        self.at = at
        self.act = act

    def _note(self, call: str) -> None:
        super()._note(call)
        if call == self.at and self.calls.count(call) == 1:
            getattr(self.up, self.act)()
