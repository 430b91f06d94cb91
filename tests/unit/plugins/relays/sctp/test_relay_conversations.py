from __future__ import annotations

import pytest

from isoneph.core.traffic import Ending, Message
from isoneph.plugins.relays.sctp.clients import Client
from relay_pieces import ByStream, Pieces


def send(client: Client, data: bytes, conversation: int = 1) -> None:
    client.received(Message(data, stream=conversation))


class TestOrder:
    def test_a_message_goes_to_a_worker_and_its_answer_to_the_client(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"question")
        assert link.dispatched == [(1, 1, b"question", b"", False)]
        pieces.answer(worker, 1, b"answer", b"and more")
        assert [message.data for message in association.sent] == [b"answer", b"and more"]
        assert pieces.switch.pending == client.pending == 0

    def test_the_next_message_waits_for_the_answer_and_has_its_state(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        send(client, b"b")
        assert len(link.dispatched) == 1
        pieces.answer(worker, 1, state=b"after a")
        assert link.dispatched[1] == (2, 1, b"b", b"after a", False)

    def test_an_answer_without_a_state_keeps_the_one_that_there_is(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        for data in (b"a", b"b", b"c"):
            send(client, data)
        pieces.answer(worker, 1, state=b"after a")
        pieces.answer(worker, 2)
        assert link.dispatched[2][3] == b"after a"

    def test_a_window_lets_so_many_go_at_once(self) -> None:
        pieces = Pieces(ByStream(window=3))
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        for data in (b"a", b"b", b"c", b"d"):
            send(client, data)
        assert [each[2] for each in link.dispatched] == [b"a", b"b", b"c"]
        pieces.answer(worker, 2)
        assert link.dispatched[3][2] == b"d"

    def test_conversations_do_not_wait_for_one_another(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        _, link = pieces.worker("w")
        send(client, b"a", 1)
        send(client, b"b", 1)
        send(client, b"c", 2)
        assert [each[2] for each in link.dispatched] == [b"a", b"c"]


class TestPlaces:
    def test_new_conversations_are_spread_by_weight(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        light, _ = pieces.worker("light")
        heavy, _ = pieces.worker("heavy", weight=3)
        for number in range(1, 41):
            send(client, b"a", number)
        assert (len(light.conversations), len(heavy.conversations)) == (10, 30)

    def test_a_weight_of_0_gets_nothing(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, _ = pieces.worker("none", weight=0)
        send(client, b"a")
        assert not worker.conversations

    def test_messages_wait_for_a_worker_to_come(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        send(client, b"a", 1)
        send(client, b"b", 2)
        _, link = pieces.worker("w")
        assert [each[2] for each in link.dispatched] == [b"a", b"b"]

    def test_a_client_that_has_waited_too_long_is_disconnected(self) -> None:
        pieces = Pieces(wait=10)
        client, association = pieces.client()
        send(client, b"a")
        pieces.clock.advance(9)
        pieces.workers.tick(1.0)
        assert len(pieces.switch.clients) == 1
        pieces.clock.advance(2)
        pieces.workers.tick(1.0)
        assert association.aborted == "no_backend"
        assert pieces.figures.refused == {"no_backend": 2}  # the client and its message
        assert pieces.switch.pending == len(pieces.conversations) == 0

    def test_too_many_conversations_are_refused(self) -> None:
        pieces = Pieces(max_conversations=2)
        client, _ = pieces.client()
        pieces.worker("w")
        for number in (1, 2, 3):
            send(client, b"a", number)
        assert pieces.figures.refused == {"too_many_conversations": 1}
        assert len(pieces.conversations) == 2


class TestLoss:
    def test_what_a_lost_worker_had_goes_to_another_with_the_state(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        first, _ = pieces.worker("first")
        send(client, b"a")
        send(client, b"b")
        send(client, b"c")
        pieces.answer(first, 1, b"A", state=b"after a")
        second, link = pieces.worker("second")
        pieces.conversations.lost(first)
        assert link.dispatched == [(1, 1, b"b", b"after a", True)]
        pieces.answer(second, 1, b"B", state=b"after b")
        assert link.dispatched[1] == (2, 1, b"c", b"after b", False)
        assert [message.data for message in association.sent] == [b"A", b"B"]
        assert first.traffic.redispatched == 1
        assert pieces.by_stream.downs == [("first", (1,))]

    def test_several_in_flight_go_again_in_order(self) -> None:
        pieces = Pieces(ByStream(window=5))
        client, _ = pieces.client()
        first, _ = pieces.worker("first")
        for data in (b"a", b"b", b"c", b"d"):
            send(client, data)
        pieces.answer(first, 2)
        pieces.conversations.lost(first)
        send(client, b"e")
        _, link = pieces.worker("second")
        assert [(each[2], each[4]) for each in link.dispatched] == [
            (b"a", True),
            (b"c", True),
            (b"d", True),
            (b"e", False),
        ]

    def test_an_answer_that_comes_afterwards_is_dropped(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        first, _ = pieces.worker("first")
        send(client, b"a")
        pieces.conversations.lost(first)
        pieces.answer(first, 1, b"late")
        pieces.conversations.pushed(first, 1, [Message(b"late")])
        assert not association.sent
        assert pieces.figures.late == 2

    def test_a_second_answer_is_dropped(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        worker, _ = pieces.worker("w")
        send(client, b"a")
        pieces.answer(worker, 1, b"A")
        pieces.answer(worker, 1, b"A")
        assert len(association.sent) == 1
        assert pieces.figures.late == 1

    def test_idle_conversations_are_free(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        first, _ = pieces.worker("first")
        send(client, b"a")
        pieces.answer(first, 1, state=b"after a")
        pieces.conversations.lost(first)
        _, link = pieces.worker("second")
        assert not link.dispatched
        send(client, b"b")
        assert link.dispatched == [(1, 1, b"b", b"after a", False)]


class TestLeaving:
    def test_idle_conversations_move_on_at_once(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        first, link = pieces.worker("first")
        send(client, b"a")
        pieces.answer(first, 1, state=b"after a")
        assert len(first.conversations) == 1
        pieces.conversations.set_taking(first, False)
        assert not first.conversations
        assert link.forgotten == [1]
        _, other = pieces.worker("second")
        send(client, b"b")
        assert other.dispatched == [(1, 1, b"b", b"after a", False)]

    def test_what_is_in_flight_is_finished_and_the_rest_moves(self) -> None:
        pieces = Pieces(ByStream(window=2))
        client, association = pieces.client()
        first, _ = pieces.worker("first")
        for data in (b"a", b"b", b"c"):
            send(client, data)
        pieces.conversations.set_taking(first, False)
        _, other = pieces.worker("second")
        pieces.answer(first, 1, b"A", state=b"1")
        assert not other.dispatched
        assert len(first.conversations) == 1
        pieces.answer(first, 2, b"B", state=b"2")
        assert other.dispatched == [(1, 1, b"c", b"2", False)]
        assert not first.conversations
        assert [message.data for message in association.sent] == [b"A", b"B"]

    def test_one_that_may_take_again_goes_on(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        pieces.conversations.set_taking(worker, False)
        send(client, b"a")
        assert not link.dispatched
        pieces.conversations.set_taking(worker, True)
        assert len(link.dispatched) == 1

    def test_what_came_meanwhile_goes_on_beside_what_is_in_flight(self) -> None:
        pieces = Pieces(ByStream(window=2))
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        pieces.conversations.set_taking(worker, False)
        send(client, b"b")
        pieces.conversations.set_taking(worker, True)
        assert [each[2] for each in link.dispatched] == [b"a", b"b"]


class TestHeldBack:
    def test_a_workers_window_is_shared_in_turns(self) -> None:
        pieces = Pieces(ByStream(window=10))
        client, _ = pieces.client()
        worker, link = pieces.worker("w", window=2)
        for data in (b"1a", b"1b", b"1c", b"1d"):
            send(client, data, 1)
        for data in (b"2a", b"2b"):
            send(client, data, 2)
        for sequence in range(1, 5):
            pieces.answer(worker, sequence)
        order = [each[2] for each in link.dispatched]
        assert order == [b"1a", b"1b", b"1c", b"2a", b"1d", b"2b"]

    def test_a_worker_that_does_not_read_gets_nothing_until_it_does(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        slow, slow_link = pieces.worker("slow")
        send(client, b"a", 1)
        pieces.answer(slow, 1)
        slow_link.writable = False
        _, quick_link = pieces.worker("quick")
        send(client, b"b", 1)
        send(client, b"c", 2)
        assert [each[2] for each in slow_link.dispatched] == [b"a"]
        assert [each[2] for each in quick_link.dispatched] == [b"c"]
        slow_link.writable = True
        pieces.conversations.serve(slow)
        assert slow_link.dispatched[1][2] == b"b"

    def test_what_waits_for_a_lost_worker_goes_to_another(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        slow, slow_link = pieces.worker("slow")
        slow_link.writable = False
        send(client, b"a")
        _, quick_link = pieces.worker("quick")
        pieces.conversations.lost(slow)
        assert quick_link.dispatched == [(1, 1, b"a", b"", False)]

    def test_nothing_is_begun_for_a_client_that_takes_no_answers(self) -> None:
        pieces = Pieces()
        slow, slow_association = pieces.client()
        quick, _ = pieces.client()
        worker, link = pieces.worker("w")
        send(slow, b"a", 1)
        slow.writable_changed(False)
        send(slow, b"b", 1)
        send(slow, b"c", 2)
        pieces.answer(worker, 1, b"A")
        send(quick, b"d", 3)
        assert [each[2] for each in link.dispatched] == [b"a", b"d"]
        assert not slow_association.sent
        slow.writable_changed(True)
        assert [message.data for message in slow_association.sent] == [b"A"]
        assert {each[2] for each in link.dispatched[2:]} == {b"b", b"c"}

    def test_conversations_that_are_dropped_meanwhile_leave_nothing(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        pieces.worker("w")
        client.writable_changed(False)
        for _ in range(10):
            send(client, b"a")
            send(client, b"end now")
        assert pieces.conversations._parked == {}
        send(client, b"b")
        client.writable_changed(True)
        assert pieces.conversations._parked == {}

    def test_the_client_whose_message_is_next_is_waited_for(self) -> None:
        pieces = Pieces(ByStream(window=2))
        first, _ = pieces.client()
        second, _ = pieces.client()
        worker, _ = pieces.worker("w")
        send(first, b"a")
        for client in (first, second):
            client.writable_changed(False)
        send(second, b"b")
        pieces.conversations.lost(worker)
        _, link = pieces.worker("other")
        first.writable_changed(True)
        assert [each[2] for each in link.dispatched] == [b"a"]
        second.writable_changed(True)
        assert [each[2] for each in link.dispatched] == [b"a", b"b"]


class TestEnds:
    def test_a_finished_conversation_drops_what_waits(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        send(client, b"b")
        send(client, b"end now")
        assert pieces.figures.refused == {"finished": 1}
        pieces.answer(worker, 1, b"late")
        assert pieces.figures.late == 1
        assert (len(pieces.conversations), pieces.switch.pending) == (0, 0)
        assert not association.sent
        assert link.forgotten == [1]

    def test_or_lets_it_go_first(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        send(client, b"b")
        send(client, b"end")
        pieces.answer(worker, 1, b"A")
        pieces.answer(worker, 2, b"B")
        assert len(association.sent) == len(link.dispatched) == 2
        assert len(pieces.conversations) == 0

    def test_one_that_ends_may_go_on(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        send(client, b"end")
        send(client, b"b")
        pieces.answer(worker, 1, state=b"after a")
        assert link.dispatched[1] == (2, 1, b"b", b"after a", False)

    def test_a_worker_may_say_that_it_is_over(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        pieces.conversations.answered(worker, 1, [], b"old", True)
        assert pieces.by_stream.ended == [1]
        assert not worker.conversations
        send(client, b"b")
        assert link.dispatched[1] == (2, 1, b"b", b"", False)

    def test_unless_there_is_more_of_it(self) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        send(client, b"b")
        pieces.conversations.answered(worker, 1, [], b"old", True)
        assert link.dispatched[1] == (2, 1, b"b", b"", False)
        assert pieces.by_stream.ended == []

    def test_a_message_that_a_worker_cannot_handle_is_counted(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        worker, link = pieces.worker("w")
        send(client, b"a")
        send(client, b"b")
        pieces.conversations.failed(worker, 1, "worker_said_bad")
        assert pieces.figures.refused == {"worker_said_bad": 1}
        assert link.dispatched[1][2] == b"b"
        assert not association.sent

    def test_what_a_worker_sends_by_itself_reaches_the_client(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        worker, _ = pieces.worker("w")
        send(client, b"a")
        pieces.conversations.pushed(worker, 1, [Message(b"news")])
        pieces.conversations.pushed(worker, 9, [Message(b"nobody's")])
        assert [message.data for message in association.sent] == [b"news"]
        assert pieces.figures.late == 1

    @pytest.mark.parametrize("ending", list(Ending))
    def test_a_client_that_is_gone_leaves_nothing(self, ending: Ending) -> None:
        pieces = Pieces()
        client, _ = pieces.client()
        worker, _ = pieces.worker("w")
        send(client, b"a")
        client.writable_changed(False)
        send(client, b"b")
        client.closed(ending, "gone")
        pieces.answer(worker, 1, b"A")
        pieces.answer(worker, 2, b"B")
        assert (pieces.switch.pending, pieces.switch.clients) == (0, {})
        assert not worker.flying
