"""A worker's side of the worker link."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from isoneph.core.errors import LinkDown, LinkError, LinkRefused
from isoneph.core.link.addresses import LinkAddress
from isoneph.core.link.backoff import Backoff
from isoneph.core.link.handshake import SECRET_BYTES, WorkerHandshake
from isoneph.core.link.session import Handler, WorkerSession
from isoneph.core.traffic import Message

LOG = logging.getLogger("isoneph.link")


def _ignore(conversation: int) -> None:
    """For who remembers nothing of conversations."""


def _is_name(text: str) -> bool:
    return text.isprintable() and 1 <= len(text.encode()) < 1 << 8


class Worker:
    """Keeps a connection to one relay and answers what that dispatches; several relays are
    served by several of these. For the tasks of one event loop.

    ``handler`` is called with each :class:`~isoneph.core.link.frames.Dispatch` and returns
    ``dispatch.reply(...)``, or ``dispatch.fail(reason)``, or None for a reply that sends nothing
    and keeps the state; or an awaitable of these. It may be called again for a dispatch whose
    answer was lost on the way (``redelivered``), by this worker or another, so it must not
    matter when something is done twice. When it raises, the dispatch is answered by a FAILED
    with the reason ``handler``, and when its answer is none that the relay takes, by one with
    the reason ``answer``. One that does not wait must be quick: while it runs, no heartbeat is
    answered.

    ``forgotten`` is called with conversations that are over or with another worker now.
    ``capacity`` is the share of new conversations that this worker wants, relative to others;
    ``window`` how many dispatches it takes at once. ``connect_timeout`` bounds connecting and
    handshake, in seconds. ``counts`` tells how often what has happened: ``handled``, ``failed``,
    ``connected``, and ``refused`` for attempts in vain.

    Raises ValueError for names that are not 1 to 255 printable bytes, for a secret of less than
    16 bytes, and for figures out of their range.
    """

    def __init__(
        self,
        address: LinkAddress,
        secret: bytes,
        handler: Handler,
        *,
        application: str,
        vm_id: str,
        capacity: int = 1,
        window: int = 256,
        forgotten: Callable[[int], None] = _ignore,
        backoff: Backoff | None = None,
        connect_timeout: float = 5.0,
    ) -> None:
        if len(secret) < SECRET_BYTES:
            raise ValueError(f"expected a secret of at least {SECRET_BYTES} bytes")
        if not all(map(_is_name, (application, vm_id))):
            raise ValueError("expected names of 1 to 255 printable bytes")
        if not (0 < capacity < 1 << 32 and 0 < window < 1 << 16):
            raise ValueError("expected a capacity from 1, and a window from 1 to 65535")
        self.address = address
        self.counts: Counter[str] = Counter()
        #: Set while the relay has let us in.
        self.up = asyncio.Event()
        self._handler = handler
        self._make_handshake = partial(
            WorkerHandshake,
            secret,
            application=application,
            vm_id=vm_id,
            capacity=capacity,
            window=window,
        )
        self._forgotten = forgotten
        self._backoff = backoff or Backoff()
        self._connect_timeout = connect_timeout
        self._session: WorkerSession | None = None
        self._reaching: asyncio.Task[WorkerSession] | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve the relay until :meth:`stop`; connect again, after a pause, whenever the
        connection is lost or cannot be made. Pauses grow until a connection has lasted.

        Raises LinkRefused, reason ``replaced``, when another worker has connected with this VM's
        id: the newer one is right.
        """
        pause = 0.0
        while not self._stopping.is_set():
            self._reaching = asyncio.create_task(self._reach(pause))
            try:
                session = await self._reaching
            except asyncio.CancelledError:
                if self._stopping.is_set():
                    return
                raise
            if self._stopping.is_set():
                session.stop()
            reason = await self._serve(session)
            if reason == "replaced":
                raise LinkRefused(reason, "another worker has connected with this VM's id")
            pause = self._backoff.next()

    async def stop(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 (no error)
        """Take nothing new, answer what is in hand, say goodbye; :meth:`run` returns then. After
        ``timeout`` seconds what is not answered is left to other workers."""
        self._stopping.set()
        if self._reaching is not None and not self._reaching.done():
            self._reaching.cancel()
        session = self._session
        if session is None:
            return
        session.stop()
        await asyncio.wait([session.finished], timeout=timeout)
        session.end("stopped", "not all in hand was answered in time", bye="stopped")

    def push(self, conversation: int, messages: Sequence[Message]) -> None:
        """Send messages to a conversation's client that answer no dispatch; the relay drops them
        when the conversation is not with this worker any more.

        Raises LinkDown without a connection, LinkFull when the relay does not read fast enough,
        and LinkError when they are more or larger than it takes.
        """
        if self._session is None:
            raise LinkDown(f"there is no link to the relay at {self.address} now")
        self._session.push(conversation, messages)

    async def _reach(self, pause: float) -> WorkerSession:
        await asyncio.sleep(pause)
        last = ""
        while True:
            try:
                return await self._connect()
            except (OSError, TimeoutError, LinkError) as error:
                self.counts["refused"] += 1
                text = str(error) or "no answer in time"
            if text != last:
                LOG.warning("no link to the relay at %s: %s", self.address, text)
                last = text
            await asyncio.sleep(self._backoff.next())

    async def _connect(self) -> WorkerSession:
        loop = asyncio.get_running_loop()
        session = WorkerSession(self._make_handshake(), self._handler, self._forgotten, self.counts)
        address = self.address
        try:
            async with asyncio.timeout(self._connect_timeout):
                if address.path:
                    await loop.create_unix_connection(lambda: session, address.path)
                else:
                    await loop.create_connection(lambda: session, address.host, address.port)
                await session.up
        except BaseException:
            session.up.cancel()
            session.cut("given_up", "the attempt is over")
            raise
        return session

    async def _serve(self, session: WorkerSession) -> str:
        loop = asyncio.get_running_loop()
        self._session = session
        self.counts["connected"] += 1
        self.up.set()
        LOG.info("linked to the relay at %s", self.address)
        since = loop.time()
        try:
            reason = await session.finished
        finally:
            self.up.clear()
            self._session = None
            session.end("stopped", "the worker is cancelled", bye="stopped")
        LOG.info("the link to the relay at %s is over: %s", self.address, reason)
        if loop.time() - since >= self._backoff.most:
            self._backoff.reset()
        return reason
