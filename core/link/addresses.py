"""Where a relay listens for its workers."""

from __future__ import annotations

from typing import Final, NamedTuple

_PORTS: Final = range(1 << 16)


class LinkAddress(NamedTuple):
    """A TCP host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> LinkAddress:
        """From ``10.0.0.1:7000``, ``name:7000``, ``[::1]:7000`` or an absolute path.

        Raises ValueError with what was expected.
        """
        if text.startswith("/"):
            return cls(path=text)
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if not (host and colon and port.isascii() and port.isdigit() and int(port) in _PORTS):
            raise ValueError(f"expected HOST:PORT or the absolute path of a socket, not {text!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        """As :meth:`parse` takes it."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
