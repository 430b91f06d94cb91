"""One backend for each client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoneph.core.plugin import Actions, Environment, Finish, Forward, Open, Router
from isoneph.core.traffic import Message
from isoneph.plugins.routers.window import OPTIONS


class Sticky(Router):
    """Everything that a client sends goes to one backend, and a new client to the backend with
    the fewest conversations for its weight.

    A client is a conversation, whose number is the client's.
    """

    schema = OPTIONS

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self.window = options["window"]

    def client_up(self, client: int) -> Actions:
        """Its conversation may be opened at once: it is known already."""
        return (Open(client),)

    def client_down(self, client: int) -> Actions:
        """Its conversation is over when all that it has sent is delivered."""
        return (Finish(client, reason="client_gone", drop=False),)

    def message(self, client: int, message: Message) -> Actions:
        """On to the client's conversation."""
        return (Forward(client, message),)
