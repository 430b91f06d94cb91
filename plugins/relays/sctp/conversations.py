"""Conversations of the ``workers`` form: what waits, what is at which worker, in which state.

No I/O: workers, clients and the router are handed in. The life of a conversation::

              message            placed at a worker          nothing in flight, and its
    (unknown) -------> waiting ---------------------> pinned worker leaves, or is lost
        ^                 ^                           |   |
        |  over           `---------------------------+---'
        `---------------------------------------------'

Each message of a conversation is a :class:`Parcel`, and in one of two places at any time: in the
conversation's ``waiting``, or ``flying`` at the worker that it is pinned to. There are never
messages of it at two workers, and it changes workers only when none is at the old one any more:
so its messages are handled in order, and each is answered once. What a lost worker had not
answered goes back to the front of ``waiting``, in order, and to the next worker with the state
that the last answer left.

A message waits for one of these: there is no worker that takes conversations (the conversation
is *homeless*); its conversation has ``window`` messages in flight; its client is slow to take
the answers (*parked*); its worker has all the dispatches that it wants, or does not read them
(in the worker's ``queue``, where each conversation has its turn); it has lost several workers, as
another message that is at its worker has (in the worker's ``suspects``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from isoneph.core.plugin import Load
from isoneph.core.traffic import Message
from isoneph.plugins.relays.sctp.clients import Client, cost
from isoneph.plugins.relays.sctp.parcels import SUSPECT, Conversation, Parcel, Worker
from isoneph.plugins.relays.sctp.switch import Switch


class Conversations:
    """All of them. ``window`` bounds each one's messages in flight; a message that may have lost
    ``max_losses`` workers is given up."""

    def __init__(self, switch: Switch, window: int, max_losses: int) -> None:
        self._switch = switch
        self._figures = switch.figures
        self._window = window
        self._max_losses = max_losses
        self._all: dict[int, Conversation] = {}
        self._workers: dict[str, Worker] = {}
        self._homeless: OrderedDict[int, Conversation] = OrderedDict()
        #: By client.
        self._parked: dict[int, dict[int, Conversation]] = {}

    def __len__(self) -> int:
        return len(self._all)

    # What clients and the router do.

    def forward(self, client: Client, number: int, message: Message) -> None:
        """Dispatch a message as soon as it may be."""
        conversation = self._all.get(number)
        if conversation is None:
            if len(self._all) >= self._switch.limits.max_conversations:
                self._figures.refuse("too_many_conversations")
                return
            conversation = self._all[number] = Conversation(number, client)
        else:
            conversation.client = client
            conversation.ending = False
        client.charge(cost(message))
        conversation.waiting.append(Parcel(conversation, client, message))
        if len(conversation.waiting) == 1:
            self._advance(conversation)

    def finish(self, number: int, reason: str, drop: bool) -> None:
        """End a conversation: now, or with ``drop`` false when all of it is answered."""
        conversation = self._all.get(number)
        if conversation is None:
            return
        conversation.ending = True
        if drop or not (conversation.waiting or conversation.flying):
            self._end(conversation, reason)

    def unpark(self, client: Client) -> None:
        """A client takes answers again, or is gone."""
        parked = self._parked.pop(client.number, {}).values()
        for conversation in parked:
            conversation.parked = None
        for conversation in parked:
            self._advance(conversation)

    # What workers do.

    def add(self, worker: Worker) -> None:
        """A worker is connected; it gets nothing before :meth:`set_taking`."""
        self._workers[worker.id] = worker

    def set_taking(self, worker: Worker, taking: bool) -> None:
        """Whether it gets conversations. One that does not keeps those with messages in flight
        until these are answered; the others move on."""
        if worker.taking == taking:
            return
        worker.taking = taking
        if taking:
            self.house()
        for conversation in tuple(worker.conversations.values()):
            if taking:
                self._advance(conversation)
            elif not conversation.flying:
                self._move(conversation)

    def house(self) -> None:
        """There is a new worker, or a new weight: those that wait for one may have it."""
        for conversation in tuple(self._homeless.values()):
            self._advance(conversation)

    def lost(self, worker: Worker, blamed: bool = True) -> None:
        """It is gone, or is a backend no more: what it has not answered goes to others. ``blamed``
        is false when no message can be the reason."""
        if self._workers.get(worker.id) is worker:
            del self._workers[worker.id]
        worker.taking = False
        if blamed:
            for parcel in worker.accused:
                parcel.losses += 1
        flying, pinned = worker.flying, worker.conversations
        worker.flying, worker.conversations, worker.suspect = {}, {}, None
        worker.queue.clear()
        worker.suspects.clear()
        for parcel in reversed(flying.values()):
            self._take_back(worker, parcel)
        for conversation in pinned.values():
            conversation.worker = None
        self._switch.backend_down(worker.id, tuple(pinned))
        for conversation in pinned.values():
            if conversation.waiting:
                self._advance(conversation)
            elif conversation.ending and not conversation.over:
                self._end(conversation, "finished")  # Its last message was given up.

    def answered(
        self,
        worker: Worker,
        sequence: int,
        messages: Sequence[Message],
        state: bytes | None,
        finished: bool,
    ) -> None:
        """A worker has answered a dispatch: its messages go to the client."""
        parcel = self._landed(worker, sequence)
        if parcel is None:
            return
        conversation = parcel.conversation
        if conversation.over:
            self._figures.late += 1
        else:
            if state is not None:
                conversation.state = state
            self._deliver(worker, conversation, parcel.client, messages)
            if finished and not conversation.over:
                self._finished(conversation)
        self._go_on(worker, conversation)

    def failed(self, worker: Worker, sequence: int, reason: str) -> None:
        """A worker could not handle a dispatch, and another could not either."""
        parcel = self._landed(worker, sequence)
        if parcel is not None:
            self._figures.refuse(reason)
            self._go_on(worker, parcel.conversation)

    def pushed(self, worker: Worker, number: int, messages: Sequence[Message]) -> None:
        """A worker sends something by itself, which it may for the conversations it has."""
        conversation = worker.conversations.get(number)
        if conversation is None:
            self._figures.late += 1
        else:
            self._deliver(worker, conversation, conversation.client, messages)

    def serve(self, worker: Worker) -> None:
        """A worker may take more: the conversations that wait for that have a turn each."""
        queue = worker.queue
        while queue and worker.has_room:
            conversation = queue.popitem(last=False)[1]
            if self._may_fly(conversation):
                self._dispatch(worker, conversation)
                if self._may_fly(conversation):
                    queue[conversation.number] = conversation

    def expire(self, now: float) -> None:
        """Disconnect clients whose messages have waited too long for a worker to be there."""
        before = now - self._switch.limits.wait
        while self._homeless:
            conversation = next(iter(self._homeless.values()))
            if conversation.homeless_since > before:
                return
            conversation.client.abort("no_backend")
            if not conversation.over:
                self._end(conversation, "no_backend")

    # Inside.

    def _take_back(self, worker: Worker, parcel: Parcel) -> None:
        """What a lost worker had not answered waits again, unless it goes on losing workers."""
        conversation = parcel.conversation
        conversation.flying -= 1
        if not conversation.over and parcel.losses < self._max_losses:
            parcel.redelivered = True
            conversation.waiting.appendleft(parcel)
            worker.traffic.redispatched += 1
            return
        parcel.client.settle(cost(parcel.message))
        if not conversation.over:
            self._figures.refuse("message_loses_workers")
            self._switch.logger.error(
                "a message of %s, conversation %d, is given up: %d workers were lost with it",
                parcel.client.source,
                conversation.number,
                parcel.losses,
            )

    def _advance(self, conversation: Conversation) -> None:
        """Dispatch what may be dispatched, and see to it that the rest has its turn."""
        worker = conversation.worker
        if worker is None or not (worker.taking or conversation.flying):
            if not conversation.waiting:
                return
            worker = self._place(conversation)
            if worker is None:
                return
        if conversation.number in worker.queue:
            return
        while self._may_fly(conversation):
            if worker.queue or not worker.has_room:
                worker.queue[conversation.number] = conversation
                return
            self._dispatch(worker, conversation)

    def _may_fly(self, conversation: Conversation) -> bool:
        """Whether it has a message for its worker, which may go if there is room for it."""
        if not conversation.waiting or conversation.flying >= self._window:
            return False
        worker = conversation.worker
        if worker is None or not worker.taking:
            return False
        parcel = conversation.waiting[0]
        if parcel.losses >= SUSPECT and worker.suspect is not None:
            worker.suspects[conversation.number] = conversation
            return False
        client = parcel.client
        if client.writable:
            return True
        if conversation.parked is not client:
            self._unpark(conversation)
            conversation.parked = client
            self._parked.setdefault(client.number, {})[conversation.number] = conversation
        return False

    def _dispatch(self, worker: Worker, conversation: Conversation) -> None:
        parcel = conversation.waiting.popleft()
        conversation.flying += 1
        message = parcel.message
        traffic = worker.traffic
        traffic.messages_out += 1
        traffic.bytes_out += len(message.data)
        sequence = worker.sequence = worker.sequence + 1
        worker.flying[sequence] = parcel
        if parcel.losses >= SUSPECT:
            worker.suspect = parcel
        worker.link.dispatch(
            sequence,
            conversation.number,
            parcel.client.number,
            message,
            conversation.state,
            parcel.redelivered,
        )

    def _landed(self, worker: Worker, sequence: int) -> Parcel | None:
        parcel = worker.flying.pop(sequence, None)
        if parcel is None:
            self._figures.late += 1
            return None
        if parcel is worker.suspect:
            worker.suspect = None
        parcel.conversation.flying -= 1
        parcel.client.settle(cost(parcel.message))
        return parcel

    def _deliver(
        self,
        worker: Worker,
        conversation: Conversation,
        client: Client,
        messages: Sequence[Message],
    ) -> None:
        traffic = worker.traffic
        for message in messages:
            traffic.messages_in += 1
            traffic.bytes_in += len(message.data)
        self._switch.reply(conversation.number, client, messages)

    def _go_on(self, worker: Worker, conversation: Conversation) -> None:
        """A message of a conversation is answered: the next one, of it or of another."""
        if not conversation.over:
            if conversation.ending and not (conversation.waiting or conversation.flying):
                self._end(conversation, "finished")
            elif not (worker.taking or conversation.flying) and conversation.worker is worker:
                self._move(conversation)
            elif conversation.waiting:
                self._advance(conversation)
        while worker.suspects and worker.suspect is None:
            self._advance(worker.suspects.popitem(last=False)[1])
        if worker.queue:
            self.serve(worker)

    def _finished(self, conversation: Conversation) -> None:
        conversation.state = b""
        if conversation.waiting or conversation.flying:
            return  # What the client has sent meanwhile begins it anew.
        client = conversation.client
        self._end(conversation, "finished")
        self._switch.finished(conversation.number, client)

    def _place(self, conversation: Conversation) -> Worker | None:
        self._unpin(conversation)
        loads = [
            Load(worker.id, worker.weight, len(worker.conversations), len(worker.flying))
            for worker in self._workers.values()
            if worker.taking
        ]
        chosen = self._switch.choose(conversation.number, loads)
        worker = self._workers.get(chosen) if chosen is not None else None
        if worker is None or not worker.taking:
            if conversation.number not in self._homeless:
                conversation.homeless_since = self._switch.clock.monotonic()
                self._homeless[conversation.number] = conversation
            return None
        self._homeless.pop(conversation.number, None)
        conversation.worker = worker
        worker.conversations[conversation.number] = conversation
        return worker

    def _move(self, conversation: Conversation) -> None:
        self._unpin(conversation)
        self._advance(conversation)

    def _unpin(self, conversation: Conversation) -> None:
        worker = conversation.worker
        if worker is not None:
            conversation.worker = None
            del worker.conversations[conversation.number]
            worker.queue.pop(conversation.number, None)
            worker.suspects.pop(conversation.number, None)
            worker.link.forget(conversation.number)

    def _unpark(self, conversation: Conversation) -> None:
        if conversation.parked is not None:
            number = conversation.parked.number
            conversation.parked = None
            del self._parked[number][conversation.number]
            if not self._parked[number]:
                del self._parked[number]

    def _end(self, conversation: Conversation, reason: str) -> None:
        conversation.over = True
        del self._all[conversation.number]
        self._homeless.pop(conversation.number, None)
        self._unpark(conversation)
        self._unpin(conversation)
        if conversation.waiting:
            self._figures.refuse(reason, len(conversation.waiting))
            for parcel in conversation.waiting:
                parcel.client.settle(cost(parcel.message))
            conversation.waiting.clear()
