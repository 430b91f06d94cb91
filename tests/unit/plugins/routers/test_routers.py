from __future__ import annotations

import pytest
from voluptuous import MultipleInvalid

from isoneph.core.plugin import Finish, Forward, Load, Open, Router
from isoneph.core.testing import build_plugin
from isoneph.core.testing.schemas import undescribed_options, unfit_defaults
from isoneph.core.traffic import Message
from isoneph.plugins.routers.per_stream import PerStream
from isoneph.plugins.routers.sticky import Sticky


class TestSticky:
    def test_a_client_is_a_conversation(self) -> None:
        router = build_plugin(Sticky)
        message = Message(b"x", stream=3)
        assert list(router.client_up(7)) == [Open(7)]
        assert list(router.message(7, message)) == [Forward(7, message)]
        assert list(router.client_down(7)) == [Finish(7, "client_gone", drop=False)]


class TestPerStream:
    def test_a_stream_of_a_client_is_a_conversation(self) -> None:
        router = build_plugin(PerStream)
        assert list(router.client_up(7)) == list(router.client_up(8)) == []
        numbers = set()
        for client in (7, 8):
            for stream in (0, 1, 65535, 1):
                message = Message(b"x", stream=stream)
                (action,) = router.message(client, message)
                assert isinstance(action, Forward)
                assert action.message is message
                numbers.add(action.conversation)
        assert len(numbers) == 6
        ended = [action.conversation for action in router.client_down(7)]  # type: ignore[union-attr] # a Finish
        assert set(ended) < numbers
        assert len(ended) == 3


@pytest.mark.parametrize("kind", [Sticky, PerStream])
class TestBoth:
    def test_the_window_is_an_option(self, kind: type[Router]) -> None:
        assert build_plugin(kind).window == 256
        assert build_plugin(kind, {"window": 1}).window == 1
        for wrong in (0, 65536, True, "8"):
            with pytest.raises(MultipleInvalid, match="from 1 to 65535"):
                build_plugin(kind, {"window": wrong})

    def test_options_are_described(self, kind: type[Router]) -> None:
        assert undescribed_options(kind.schema) == unfit_defaults(kind.schema) == []

    def test_the_least_laden_backend_for_its_weight_is_chosen(self, kind: type[Router]) -> None:
        router = build_plugin(kind)
        loads = [Load("a", 1.0, 4, 0), Load("b", 2.0, 8, 0), Load("c", 0.5, 2, 0)]
        assert router.choose(1, loads) == "b"
        assert router.choose(1, []) is None
