"""Messages that come in parts are put together again."""

from __future__ import annotations


class Assembly:
    """What has come of one message, up to a limit of bytes."""

    __slots__ = ("_limit", "_parts", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> bool:
        """A part has come, and more will; False when the message grows too large."""
        self._parts.append(part)
        self._size += len(part)
        return self._size <= self._limit

    def finish(self, last: bytes) -> bytes | None:
        """The message, whose last part has come; None when it is too large."""
        if not self._parts:
            return last if len(last) <= self._limit else None
        fits = self.add(last)
        whole = b"".join(self._parts)
        self.clear()
        return whole if fits else None

    def clear(self) -> None:
        """Forget what has come."""
        self._parts.clear()
        self._size = 0
