"""A router with a conversation for each key of a client."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from isoneph.core.plugin import Actions, Environment, Finish, Forward, Refuse, Router, Send
from isoneph.core.traffic import Message

KEY_BYTES = 8
PPID = 18


class Keyed(Router):
    """The first eight bytes of a message say which conversation of its client it belongs to.

    Workers never see the key: the conversation's number, which the router gives out, stands
    for it, and what they answer gets it back. One message of a conversation is at a worker at a
    time, so that it finds the state that the one before it has left.
    """

    window = 1

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._numbers = itertools.count(1)
        self._conversations: dict[int, dict[bytes, int]] = {}
        self._keys: dict[int, tuple[int, bytes]] = {}

    def client_up(self, client: int) -> Actions:
        """A client without keys."""
        self._conversations[client] = {}
        return ()

    def client_down(self, client: int) -> Actions:
        """Its conversations are over."""
        numbers = self._conversations.pop(client).values()
        for number in numbers:
            del self._keys[number]
        return [Finish(number, "client_gone") for number in numbers]

    def message(self, client: int, message: Message) -> Actions:
        """To the key's conversation, without the key."""
        if message.ppid != PPID:
            return [Refuse("wrong_ppid")]
        key, data = message.data[:KEY_BYTES], message.data[KEY_BYTES:]
        if not data:
            return [Refuse("malformed")]
        number = self._conversations[client].get(key)
        if number is None:
            number = self._conversations[client][key] = next(self._numbers)
            self._keys[number] = (client, key)
        return [Forward(number, message._replace(data=data))]

    def reply(self, conversation: int, client: int, messages: Sequence[Message]) -> Actions:
        """To the client, with the key."""
        _, key = self._keys[conversation]
        return [Send(client, message._replace(data=key + message.data)) for message in messages]

    def finished(self, conversation: int) -> Actions:
        """A worker has said so: the key may begin anew."""
        client, key = self._keys.pop(conversation)
        del self._conversations[client][key]
        return ()
