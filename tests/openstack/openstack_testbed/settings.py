"""Where a testbed lives and what it is made of: its directory, its ports, its clouds."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .report import Failure

#: The clouds, each with the offset of its first port: a cloud keeps it whichever others are up.
CLOUDS = {"uniform": 100, "quebec": 200}
#: The public addresses of each cloud, of the ranges kept for documentation (RFC 5737).
PUBLIC_RANGES = {"uniform": "203.0.113.0/24", "quebec": "198.51.100.0/24"}
#: Below 32768, where Linux puts the near ends of connections: one could sit on a port of ours.
DEFAULT_PORT = 26000
HIGHEST_PORT = 32000
REGION = "RegionOne"
#: The project that the clouds' user works in, and the name of that user.
PROJECT = "isoneph"
#: Ports, counted from the first one, of what both clouds share.
SHARED_PORTS = {"mariadb": 1, "rabbitmq": 2, "epmd": 3, "rabbitmq's Erlang distribution": 4}
#: Ports, counted from a cloud's first one, of the APIs by their type in the catalog.
API_PORTS = {
    "identity": 0,
    "placement": 1,
    "image": 2,
    "network": 3,
    "compute": 4,
    "block-storage": 5,
}
_URL_TAILS = {"identity": "/v3", "compute": "/v2.1", "block-storage": "/v3"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What one testbed is. Two of them may be up at once when directory and ports differ."""

    directory: Path
    #: The first port; all others are counted from it.
    port: int = DEFAULT_PORT
    clouds: tuple[str, ...] = tuple(CLOUDS)
    #: Whether the clouds have Cinder; fixed when the testbed is set up.
    volumes: bool = True

    def shared_port(self, name: str) -> int:
        """The port of something that both clouds share."""
        return self.port + SHARED_PORTS[name]

    def api_port(self, cloud: str, kind: str) -> int:
        """The port of a cloud's API of this type."""
        return self.port + CLOUDS[cloud] + API_PORTS[kind]

    def url(self, cloud: str, kind: str) -> str:
        """Where a cloud's API of this type is, as its catalog says."""
        return f"http://127.0.0.1:{self.api_port(cloud, kind)}{_URL_TAILS.get(kind, '')}"

    @property
    def shared(self) -> Path:
        """The data of what both clouds share."""
        return self.directory / "shared"

    def state(self, cloud: str) -> Path:
        """The data and configuration of one cloud."""
        return self.directory / cloud

    def faults(self, cloud: str, service: str) -> Path:
        """The file of the faults that one service shows; see `faults`."""
        return self.state(cloud) / "faults" / f"{service}.json"

    def calls(self, cloud: str, service: str) -> Path:
        """The file in which one API writes each call that it gets."""
        return self.state(cloud) / "calls" / f"{service}.jsonl"

    @property
    def password(self) -> str:
        """Of every user of everything; made on first use.

        The ports are open to all of this machine, so that it is not a word known to all.
        """
        path = self.directory / "password"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(18))
        return path.read_text()

    def save(self, **more: str) -> None:
        """Write down what `resolve` is to find next time, and ``more`` for `saved`."""
        fixed = asdict(self) | more
        del fixed["directory"]
        _file(self.directory).write_text(json.dumps(fixed) + "\n")


def saved(directory: Path) -> dict[str, Any]:
    """What a testbed's last `Settings.save` wrote; nothing when there is no testbed."""
    try:
        found: dict[str, Any] = json.loads(_file(directory).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Failure(f"cannot read {_file(directory)}: {error}; remove it and try again") from None
    return found


def resolve(options: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """The settings by options, else by environment variables, else as the testbed was set up.

    Raises:
        Failure: A value cannot be, or a testbed is set up that differs in what cannot be changed.
    """
    directory = _directory(options.get("dir") or environment.get("ISONEPH_TESTBED_DIR"))
    before = saved(directory)
    port = _port(options.get("port") or environment.get("ISONEPH_TESTBED_PORT"))
    volumes = options.get("volumes")
    if volumes is None:
        volumes = _switch("ISONEPH_TESTBED_VOLUMES", environment)
    asked: dict[str, int | bool | None] = {"port": port, "volumes": volumes}
    for name, value in asked.items():
        if before and value is not None and value != before[name]:
            raise Failure(
                f"the testbed in {directory} is set up with {name} {before[name]}, not {value}: "
                "use that, or `wipe` it first, or choose another directory with --dir"
            )
    clouds = _clouds(options.get("clouds") or environment.get("ISONEPH_TESTBED_CLOUDS"))
    return Settings(
        directory=directory,
        port=port or before.get("port", DEFAULT_PORT),
        clouds=clouds or tuple(before.get("clouds", CLOUDS)),
        volumes=before.get("volumes", True) if volumes is None else volumes,
    )


def _file(directory: Path) -> Path:
    return directory / "settings.json"


def _directory(given: str | None) -> Path:
    if given:
        return Path(given).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().resolve() / "isoneph" / "openstack-testbed"


def _port(given: str | None) -> int | None:
    if not given:
        return None
    if not given.isdecimal() or not 1024 <= int(given) <= HIGHEST_PORT:
        raise Failure(f"port {given}: expected a number from 1024 to {HIGHEST_PORT}")
    return int(given)


def _switch(name: str, environment: Mapping[str, str]) -> bool | None:
    given = environment.get(name)
    if not given:
        return None
    if given not in {"0", "1"}:
        raise Failure(f"{name}={given}: expected 0 or 1")
    return given == "1"


def _clouds(given: str | None) -> tuple[str, ...]:
    names = tuple((given or "").replace(",", " ").split())
    for name in names:
        if name not in CLOUDS:
            raise Failure(f"cloud {name}: expected one of {', '.join(CLOUDS)}")
    return names
