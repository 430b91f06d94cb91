"""What the ends of the relay's benchmarks have in common: the loop, transports, messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

from isoneph.core.clock import SystemClock
from isoneph.core.plugin import Association, Transport
from isoneph.core.registry import Registry
from isoneph.core.testing import build_plugin, make_environment
from isoneph.core.traffic import Ending, Notification

HOST = "127.0.0.1"
#: Bytes of a message: those of usual signalling.
SIZE = 150
PPID = 18
#: Seconds that an association may take to come up, on a busy machine.
PATIENCE = 20.0

try:
    import uvloop as _loops
except ModuleNotFoundError:
    LOOP = "asyncio"
    _new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    LOOP = f"uvloop {version('uvloop')}"
    _new_loop = _loops.new_event_loop


def run(program: Coroutine[Any, Any, None]) -> None:
    """Run it on the loop that the relay runs on too: uvloop where it is installed."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(program)


def make_transport(driver: str, **options: Any) -> Transport:
    """A transport by its name."""
    plugin: Any = Registry().load("transports", driver)
    environment = make_environment(driver, clock=SystemClock(), timeout=PATIENCE)
    transport: Transport = build_plugin(plugin, options, environment=environment)
    return transport


class End:
    """Who uses an association; what it does not need it forgets.

    Each kind of end takes its messages (``received``) in its own way.
    """

    association: Association

    def opened(self, association: Association) -> None:
        self.association = association

    def writable_changed(self, writable: bool) -> None:
        pass

    def notified(self, notification: Notification) -> None:
        pass

    def closed(self, ending: Ending, reason: str) -> None:
        pass
