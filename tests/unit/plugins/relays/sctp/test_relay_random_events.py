"""Conversations under any sequence of events: nothing lost, doubled or out of order, or stuck."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isoneph.core.traffic import Ending, Message
from isoneph.plugins.relays.sctp.clients import Client, cost
from isoneph.plugins.relays.sctp.parcels import SUSPECT, Worker
from relay_pieces import ByStream, Pieces, StubAssociation, StubLink

_CONVERSATIONS = st.integers(1, 3)
_WHICH = st.integers(0, 5)
_MOSTLY = st.sampled_from([True, True, False])


class World(RuleBasedStateMachine):
    """``handled`` is what workers have answered, by conversation; ``state`` of a conversation is
    the number of messages answered, and comes with each dispatch when the window is 1."""

    @initialize(
        window=st.sampled_from([1, 3]),
        windows=st.tuples(*[st.integers(1, 4)] * 2),
        max_losses=st.sampled_from([3, 5]),
    )
    def begin(self, window: int, windows: tuple[int, int], max_losses: int) -> None:
        self.window = window
        self.pieces = Pieces(ByStream(window), max_losses=max_losses)
        self.clients: list[tuple[Client, StubAssociation]] = [self.pieces.client()]
        self.workers: list[tuple[Worker, StubLink]] = [
            self.pieces.worker(f"first{place}", each) for place, each in enumerate(windows)
        ]
        self.sent: dict[int, list[bytes]] = defaultdict(list)
        self.handled: dict[int, list[bytes]] = defaultdict(list)
        self.dropped: set[bytes] = set()
        self.names = 0

    # Clients.

    @rule()
    def come(self) -> None:
        if len(self.clients) < 3:
            self.clients.append(self.pieces.client())

    @rule(which=_WHICH, conversation=_CONVERSATIONS, amount=st.integers(1, 4))
    def send(self, which: int, conversation: int, amount: int) -> None:
        client, _ = self.clients[which % len(self.clients)]
        for _ in range(amount):
            data = b"%d/%d" % (conversation, len(self.sent[conversation]))
            self.sent[conversation].append(data)
            client.received(Message(data, stream=conversation))

    @rule(which=_WHICH, writable=_MOSTLY)
    def be_slow(self, which: int, writable: bool) -> None:
        self.clients[which % len(self.clients)][0].writable_changed(writable)

    @precondition(lambda self: len(self.clients) > 1)
    @rule(which=_WHICH)
    def go(self, which: int) -> None:
        client, _ = self.clients.pop(which % len(self.clients))
        client.closed(Ending.LOST, "gone")

    @rule(conversation=_CONVERSATIONS, drop=st.booleans())
    def end(self, conversation: int, drop: bool) -> None:
        known = self.pieces.conversations._all.get(conversation)
        if known is not None and drop:
            self.dropped |= {parcel.message.data for parcel in known.waiting}
            if known.worker is not None:
                flying = known.worker.flying.values()
                self.dropped |= {p.message.data for p in flying if p.conversation is known}
        self.pieces.conversations.finish(conversation, "finished", drop)

    # Workers.

    @precondition(lambda self: len(self.workers) < 3)
    @rule(window=st.integers(1, 4))
    def register(self, window: int) -> None:
        self.names += 1
        self.workers.append(self.pieces.worker(f"w{self.names}", window))

    @precondition(lambda self: self.workers)
    @rule(which=_WHICH)
    def lose(self, which: int) -> None:
        worker, _ = self.workers.pop(which % len(self.workers))
        self._lose(worker)

    def _lose(self, worker: Worker) -> None:
        """What is given up then must have been lost often enough."""
        flying = [parcel for parcel in worker.flying.values() if not parcel.conversation.over]
        given_up = self.pieces.figures.refused["message_loses_workers"]
        self.pieces.conversations.lost(worker)
        for parcel in flying:
            if parcel.losses >= self.pieces.conversations._max_losses:
                self.dropped.add(parcel.message.data)
                given_up += 1
        assert self.pieces.figures.refused["message_loses_workers"] == given_up

    @precondition(lambda self: self.workers)
    @rule(which=_WHICH, taking=_MOSTLY)
    def take(self, which: int, taking: bool) -> None:
        self.pieces.conversations.set_taking(self.workers[which % len(self.workers)][0], taking)

    @precondition(lambda self: self.workers)
    @rule(which=_WHICH, writable=_MOSTLY)
    def read(self, which: int, writable: bool) -> None:
        worker, link = self.workers[which % len(self.workers)]
        link.writable = writable
        if writable:
            self.pieces.conversations.serve(worker)

    @precondition(lambda self: any(worker.flying for worker, _ in self.workers))
    @rule(which=_WHICH, amount=st.integers(1, 4))
    def answer(self, which: int, amount: int = 1) -> None:
        for _ in range(amount):
            busy = [worker for worker, _ in self.workers if worker.flying]
            if busy:
                self.answer_one(busy[which % len(busy)])

    def answer_one(self, worker: Worker) -> None:
        sequence = next(iter(worker.flying))
        parcel = worker.flying[sequence]
        number = parcel.conversation.number
        if not parcel.conversation.over:
            self.handled[number].append(parcel.message.data)
        self.pieces.answer(worker, sequence, parcel.message.data, state=parcel.message.data)

    # What always holds.

    @invariant()
    def in_order_and_once(self) -> None:
        for number, handled in self.handled.items():
            expected = [data for data in self.sent[number] if data not in self.dropped]
            answered = [data for data in handled if data not in self.dropped]
            assert answered == expected[: len(answered)]
            assert len(set(handled)) == len(handled)

    @invariant()
    def the_last_state_goes_with_the_message(self) -> None:
        if self.window > 1:
            return
        for worker, link in self.workers:
            for parcel in worker.flying.values():
                conversation = parcel.conversation
                if not conversation.over:
                    last = link.dispatched[-1] if link.dispatched else None
                    assert last is not None
                    given = [each for each in link.dispatched if each[1] == conversation.number]
                    assert given[-1][2:4] == (parcel.message.data, conversation.state)

    @invariant()
    def each_message_is_in_one_place(self) -> None:
        places = [
            parcel for known in self.pieces.conversations._all.values() for parcel in known.waiting
        ]
        for worker, _ in self.workers:
            assert len(worker.flying) <= worker.window
            places += worker.flying.values()
        assert len(set(map(id, places))) == len(places)
        assert self.pieces.switch.pending == sum(cost(parcel.message) for parcel in places)
        for known in self.pieces.conversations._all.values():
            at = [
                worker.id
                for worker, _ in self.workers
                for parcel in worker.flying.values()
                if parcel.conversation is known
            ]
            assert len(at) == known.flying <= self.window
            assert len(set(at)) <= 1

    @invariant()
    def nothing_is_stuck(self) -> None:
        takers = [worker for worker, _ in self.workers if worker.taking]
        for known in self.pieces.conversations._all.values():
            if not known.waiting:
                continue
            worker = known.worker
            if worker is None:
                assert not takers
            elif not worker.taking:
                assert known.flying
            else:
                assert (
                    known.flying == self.window
                    or not known.waiting[0].client.writable
                    or not worker.has_room
                    or (known.waiting[0].losses >= SUSPECT and worker.suspect is not None)
                )

    @invariant()
    def suspects_go_one_at_a_time(self) -> None:
        for worker, _ in self.workers:
            suspects = [each for each in worker.flying.values() if each.losses >= SUSPECT]
            assert suspects == ([] if worker.suspect is None else [worker.suspect])

    @invariant()
    def the_parked_ones_are_there_and_wait_for_a_slow_client(self) -> None:
        conversations = self.pieces.conversations
        for number, parked in conversations._parked.items():
            assert parked
            for known in parked.values():
                assert conversations._all[known.number] is known
                assert known.parked is not None
                assert known.parked.number == number

    @invariant()
    def idle_ones_have_left(self) -> None:
        for worker, _ in self.workers:
            if not worker.taking:
                assert all(known.flying for known in worker.conversations.values())

    def teardown(self) -> None:
        """In the end a worker comes that answers everything."""
        if not hasattr(self, "pieces"):
            return
        for worker, _ in self.workers:
            self._lose(worker)
        for client, _ in self.clients:
            client.writable_changed(True)
        worker, _ = self.pieces.worker("last")
        self.workers = [(worker, _)]
        while worker.flying:
            self.answer(0)
        for number, sent in self.sent.items():
            missing = set(sent) - set(self.handled[number]) - self.dropped
            assert not missing
        assert self.pieces.switch.pending == 0


TestRandomEvents = World.TestCase
TestRandomEvents.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
