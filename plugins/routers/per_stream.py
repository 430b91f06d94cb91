"""One backend for each stream of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from isoneph.core.plugin import Actions, Environment, Finish, Forward, Router
from isoneph.core.traffic import Message
from isoneph.plugins.routers.window import OPTIONS

#: A stream's number has so many bits (RFC 9260, section 3.3.1).
_STREAM_BITS: Final = 16


class PerStream(Router):
    """What a client sends on one stream goes to one backend; its streams are spread over all.

    A stream of a client is a conversation, numbered client * 65536 + stream. An answer goes out
    on the stream that the backend has put it on.
    """

    schema = OPTIONS

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self.window = options["window"]
        self._conversations: dict[int, set[int]] = {}

    def client_up(self, client: int) -> Actions:
        """Nothing yet: its streams show when they are used."""
        self._conversations[client] = set()
        return ()

    def client_down(self, client: int) -> Actions:
        """All its conversations are over when what was sent on them is delivered."""
        numbers = sorted(self._conversations.pop(client))
        return [Finish(number, reason="client_gone", drop=False) for number in numbers]

    def message(self, client: int, message: Message) -> Actions:
        """On to the stream's conversation."""
        number = client << _STREAM_BITS | message.stream
        self._conversations[client].add(number)
        return (Forward(number, message),)
