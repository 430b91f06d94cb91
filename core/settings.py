"""The validated configuration as values; :mod:`isoneph.core.config` makes them from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isoneph.core.model import VmType


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """One entry of ``clouds.yaml``: the driver with its options, and how the core treats it.

    Durations are in seconds. ``calls`` bounds creates and deletes under way at once.
    """

    name: str
    driver: str
    options: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 64
    timeout: float = 60.0
    breaker_failures: int = 3
    breaker_pause: float = 30.0
    limits_age: float = 300.0
    slow_create: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """One placement or victim policy in an application's list."""

    policy: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


#: What a token may allow: GET, everything else, and the figures for Prometheus.
SCOPES = ("read", "write", "metrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """A bearer token: ``sha256`` is the digest, in hex, of the token that its owner holds;
    ``scopes`` are of :data:`SCOPES`."""

    name: str
    sha256: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealingSettings:
    """How the engine keeps an application's VMs whole; durations in seconds.

    ``boot_timeout`` is how long a VM may build; ``attempts`` how often one id is placed before
    its failure is left to be seen; ``grace`` how far apart the two sightings are after which
    something that nobody owns is removed.
    """

    boot_timeout: float = 600.0
    attempts: int = 3
    grace: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSettings:
    """A plugin that another one is put together from: its driver, its options, its own parts."""

    driver: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, PartSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """What carries an application's traffic to its VMs; durations in seconds.

    ``network`` is the one whose addresses of a VM are used (None: the VM's first); ``types`` are
    the VM types that get traffic (None: all); ``servers`` the addresses of others that get it too;
    ``weights`` the shares of new sessions, by VM type or server, where that is not 1. ``control``
    is where the relay's process is spoken to: the path of a Unix socket, or HOST:PORT with a
    shared secret in ``control_secret_file``; None is the socket of that application in this
    user's runtime directory. ``metrics`` is where the process shows its figures, HOST:PORT, if it
    does.
    """

    driver: str
    network: str | None = None
    types: Sequence[str] | None = None
    servers: Sequence[str] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    drain: float = 300.0
    control: str | None = None
    control_secret_file: str | None = None
    metrics: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, PartSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSettings:
    """One file of ``applications/``.

    ``types`` maps a type's name to its :class:`VmType` on each cloud, by cloud name; ``clouds``
    is in order of preference, where policies see no difference. Options are as the plugins'
    schemas return them, defaults filled in.
    """

    name: str
    clouds: Sequence[str]
    types: Mapping[str, Mapping[str, VmType]]
    placement: Sequence[PolicySettings] = ()
    victims: Sequence[PolicySettings] = ()
    tokens: Sequence[TokenSettings] = ()
    #: What is to be there on its clouds first, by the driver that it is written for.
    prepare: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: What carries its traffic, if isoneph is to see to that.
    relay: RelaySettings | None = None
    healing: HealingSettings = HealingSettings()
    #: Seconds for which a listing of VMs is good enough to decide by.
    freshness: float = 2.0
    #: Seconds that a request waits for a cloud's listing before it goes on without that cloud.
    patience: float = 3.0
    #: Seconds that one create or delete may take in all, failover included.
    deadline: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The store that replicas coordinate through."""

    driver: str = "memory"
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """``isoneph.conf``: the service itself; durations in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8642
    allow_unauthenticated: bool = False
    default_application: str | None = None
    max_body: int = 65536
    max_wait: float = 600.0
    graceful_timeout: float = 30.0
    engine_enabled: bool = True
    engine_interval: float = 5.0
    engine_lease: float = 15.0
    log_level: str = "INFO"
    log_format: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that was configured, in the order of the files."""

    service: ServiceSettings = ServiceSettings()
    store: StoreSettings = StoreSettings()
    clouds: Mapping[str, CloudSettings] = field(default_factory=dict)
    applications: Mapping[str, ApplicationSettings] = field(default_factory=dict)
