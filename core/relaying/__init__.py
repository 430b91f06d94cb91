"""Between the core and relays: a relay with its parts, the process that it lives in, and the way to
that process.

::

    isoneph serve                               isoneph relay APPLICATION
    engine, API -- RemoteRelay -- control ----> ControlServer -- RelayHost -- Relay (the plugin)
                   (client.py)    channel       (server.py)      (host.py)     and its parts
                                                                    |
                                                                StateFile (remembering.py)

A relay without a process of its own has its :class:`~isoneph.core.relaying.host.RelayHost` in the
engine, with its state in the store; both are a :class:`~isoneph.core.relaying.values.RelayWay`.
"""

from isoneph.core.relaying.client import RemoteRelay
from isoneph.core.relaying.host import RelayHost
from isoneph.core.relaying.making import has_process, make_relay
from isoneph.core.relaying.places import control_of
from isoneph.core.relaying.remembering import StoredState
from isoneph.core.relaying.values import Member, RelayWay, Standing

__all__ = [
    "Member",
    "RelayHost",
    "RelayWay",
    "RemoteRelay",
    "Standing",
    "StoredState",
    "control_of",
    "has_process",
    "make_relay",
]
