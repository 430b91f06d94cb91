"""One client's connection: gunicorn's, with an end for those that are idle or stalled."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

from isoneph.core.api.answers import encode
from isoneph.core.api.problems import MEDIA_TYPE, Refused, code_of_status, problem_of

#: Seconds that a new connection may take until its first request is there.
FIRST_REQUEST_TIMEOUT = 30.0


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """Knows whether it is idle; answers what is not even HTTP with a problem too.

    The worker is told when it begins and ends.
    """

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self.app: Any = self._carry_out
        self._idle = True
        self._timer: Any = None

    def connection_made(self, transport: Any) -> None:
        """See :class:`asyncio.Protocol`."""
        self.worker.joined(self)
        self._timer = self.worker.loop.call_later(FIRST_REQUEST_TIMEOUT, self._give_up)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._idle = False
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._stop_timer()
        self.worker.left(self)
        super().connection_lost(exc)

    def close_if_idle(self) -> None:
        """Close, unless a request is under way or has begun to arrive."""
        if self._idle:
            self.transport.close()

    async def _carry_out(self, scope: Any, receive: Any, send: Any) -> None:
        self._stop_timer()
        self._idle = False
        try:
            await self.worker.asgi(scope, receive, send)
        finally:
            self._idle = True

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_error_response(
        self, status: int, message: str, extra_headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Gunicorn calls this for requests that it cannot read, and when there is no answer."""
        if self.transport.is_closing():
            return
        code = code_of_status(status)
        if getattr(self._body_receiver, "_body_wait_expired", False):
            code, message = "body_timeout", "no body within the time-out"
        problem, _ = problem_of(Refused(code, message), instance="", request_id="")
        body = encode(problem)
        headers = [
            ("content-type", MEDIA_TYPE),
            ("content-length", str(len(body))),
            ("server", "isoneph"),
            ("connection", "close"),
            *extra_headers,
        ]
        lines = [
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
