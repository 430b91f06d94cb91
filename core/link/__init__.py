"""The worker link: how a relay and the workers behind it talk.

A worker keeps one connection to each relay, and many conversations of many clients go over it.
Public for plugins and applications, as :mod:`isoneph.core.plugin` is:

- :class:`Worker` is a worker's whole side of it; its handler answers dispatches.
- :class:`LinkServer` is the relay's, with a :class:`WorkerConnection` for each worker.
- :mod:`~isoneph.core.link.frames` are the frames, :mod:`~isoneph.core.link.handshake` and
  :class:`~isoneph.core.link.reader.FrameReader` speak them without I/O.
"""

from isoneph.core.link.addresses import LinkAddress
from isoneph.core.link.backoff import Backoff
from isoneph.core.link.frames import Dispatch, Drain, Failed, Hello, Limits, Push, Reply
from isoneph.core.link.handshake import read_secret
from isoneph.core.link.server import LinkServer, WorkerConnection, WorkerHandler
from isoneph.core.link.session import Answer, Handler
from isoneph.core.link.worker import Worker

__all__ = [
    "Answer",
    "Backoff",
    "Dispatch",
    "Drain",
    "Failed",
    "Handler",
    "Hello",
    "Limits",
    "LinkAddress",
    "LinkServer",
    "Push",
    "Reply",
    "Worker",
    "WorkerConnection",
    "WorkerHandler",
    "read_secret",
]
