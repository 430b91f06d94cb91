"""What can be known to go wrong before anything is started."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from . import proc
from .infrastructure import NAMES
from .processes import Processes
from .report import Failure, Progress
from .services import APIS, services_of
from .settings import SHARED_PORTS, Settings

#: Bytes of memory that both clouds take.
MEMORY = 2_700_000_000


def require_own(directory: Path) -> None:
    """Raise when a directory is there for something else: `wipe` would remove parts of that.

    Raises:
        Failure: It has content that is not a testbed's.
    """
    if directory.exists() and not (directory / "lock").exists():
        strange = [path.name for path in directory.iterdir() if not path.name.startswith("venv")]
        if strange:
            raise Failure(
                f"{directory} is no testbed's directory, for it has {strange[0]}: choose an empty "
                "or a new one with --dir"
            )


def require_ports(settings: Settings, processes: Processes) -> None:
    """Raise when another program has a port that is about to be used.

    Raises:
        Failure: With the port, what it is for, and how to choose others.
    """
    wanted: list[tuple[int, str, tuple[str, ...]]] = [
        (settings.shared_port(name), name, NAMES) for name in SHARED_PORTS
    ]
    for cloud in settings.clouds:
        for service in services_of(settings):
            if service in APIS:
                name = f"{cloud}-{service}"
                wanted.append((settings.api_port(cloud, APIS[service].kind), name, (name,)))
    for port, purpose, names in wanted:
        if not any(processes.alive(name) for name in names) and not _free(port):
            raise Failure(
                f"port {port} of 127.0.0.1, for {purpose}, is taken by another program: end that, "
                "or choose another first port with --port or ISONEPH_TESTBED_PORT "
                f"(now {settings.port})"
            )


def warn_of_memory(settings: Settings, running: Iterable[str], progress: Progress) -> None:
    """Say so when there is little memory left for what is about to be started."""
    available = proc.available_memory()
    wanted = MEMORY * len(settings.clouds) // 2
    if not list(running) and available < wanted:
        progress.say(
            f"note: {available / 1e9:.1f} GB of memory are available, and the clouds take about "
            f"{wanted / 1e9:.1f} GB"
        )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
