"""Where a relay's process keeps its state and is spoken to, when nobody says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from isoneph.core.errors import RelayRefused
from isoneph.core.settings import ApplicationSettings

NAME = "isoneph"
#: Nobody but the owner.
PRIVATE = 0o700


def state_directory() -> Path:
    """Where state is kept: what systemd gives (``StateDirectory=``), else the user's
    directory for state of the XDG Base Directory Specification; root's is in ``/var/lib``."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    xdg = os.environ.get("XDG_STATE_HOME", "")
    if xdg.startswith("/"):
        return Path(xdg, NAME)
    return Path("/var/lib", NAME) if os.geteuid() == 0 else Path.home() / ".local/state" / NAME


def control_of(settings: ApplicationSettings) -> str:
    """Where the relay of an application is spoken to: as configured, or the socket that all
    processes of one user find by themselves."""
    if settings.relay is not None and settings.relay.control is not None:
        return settings.relay.control
    return str(_runtime_directory() / f"{settings.name}.sock")


def _runtime_directory() -> Path:
    xdg = os.environ.get("XDG_RUNTIME_DIR", "")
    if xdg.startswith("/"):
        return Path(xdg, NAME)
    uid = os.geteuid()
    return Path("/run", NAME) if uid == 0 else Path(f"/tmp/{NAME}-{uid}")  # noqa: S108 (see private)


def private(directory: Path) -> None:
    """Make a directory that is ours alone, or see that it is. Raises RelayRefused: in ``/tmp``
    somebody else may have made one of that name before us."""
    try:
        directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        reason = error.strerror or error
        raise RelayRefused(f"the directory {directory} cannot be made: {reason}") from error
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or others_write:
        raise RelayRefused(f"{directory} is not a directory that only this user can write to")
