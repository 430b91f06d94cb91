"""For how long a backend may still be found by clients: pure.

::

                     a server accepted it              a server accepted its removal
    not published ──────────────────────> published ─────────────────────────────────> withdrawn
                                              ^                                         │     │
                                              └─────────────────────────────────────────┘     │
    over <────────────────────────────────────────────────────────────────────────────────────┘
                           TTL and grace are over
"""

from __future__ import annotations


class Leases:
    """Knows of each backend whether it is published, and when the last answer with it is stale.

    One that is first seen while it is not published counts as just withdrawn: who looked after
    the records before may have done that a moment ago.
    """

    def __init__(self, ttl: float, grace: float) -> None:
        self._ttl = ttl
        self._grace = grace
        self._published: set[str] = set()
        #: Sent to a server, and not answered.
        self._unsure: set[str] = set()
        #: When the last answer with a backend is stale, of those that are not published.
        self._ends: dict[str, float] = {}
        #: When the last answer with another TTL than ours is.
        self._others_end = 0.0

    def is_published(self, backend_id: str) -> bool:
        """Whether the last that a server accepted has it."""
        return backend_id in self._published

    def may_be_found(self, backend_id: str, now: float) -> bool:
        """Whether a client can still come by it; also when nothing is known of it yet."""
        if backend_id in self._published or backend_id in self._unsure:
            return True
        return self._ends.get(backend_id, now + 1) > now

    def left(self, backend_id: str, now: float) -> float:
        """The seconds for which caches may answer with one that was withdrawn."""
        return max(self._ends.get(backend_id, now) - now, 0.0)

    def seen(self, ttl: float, now: float) -> None:
        """Records with this TTL are there: caches may hold answers for that long."""
        self._others_end = max(self._others_end, now + ttl + self._grace)

    def may_be_published(self, backend_ids: set[str]) -> None:
        """These were sent to a server; whether it accepts them is to be seen."""
        self._unsure |= backend_ids

    def are_published(self, backend_ids: set[str], all_ids: set[str], now: float) -> None:
        """A server has exactly these of all backends that there are."""
        end = max(now + self._ttl + self._grace, self._others_end)
        absent = all_ids - backend_ids
        ends = {key: self._ends.get(key, end) for key in absent}
        gone = absent & (self._published | self._unsure)
        self._ends = ends | dict.fromkeys(gone, end)
        self._published, self._unsure = set(backend_ids), set()
