"""The tables that the services find when they start."""

from __future__ import annotations

import grp
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from . import infrastructure
from .infrastructure import Infrastructure
from .installation import Installation
from .processes import Processes
from .settings import REGION, Settings

_NOVA = ("nova-manage", "nova.conf")
#: Of each database, slowest first: the program that makes its tables, its configuration file, the
#: program's further arguments.
_MIGRATIONS: Mapping[str, tuple[str, ...]] = {
    "neutron": ("neutron-db-manage", "neutron.conf", "upgrade", "heads"),
    "nova": (*_NOVA, "db", "sync", "--local_cell"),
    "nova_api": (*_NOVA, "api_db", "sync"),
    "keystone": ("keystone-manage", "keystone.conf", "db_sync"),
    "placement": ("placement-manage", "placement.conf", "db", "sync"),
    "glance": ("glance-manage", "glance-api.conf", "db_sync"),
    "cinder": ("cinder-manage", "cinder.conf", "db", "sync"),
}
#: The databases that daemons report to, and the column that says when they did.
_REPORTS = {"nova": "last_seen_up", "cinder": "updated_at"}
#: Where Nova keeps the servers that no host took; the tables are a cell's.
_CELL0 = "nova_cell0"


class Databases:
    """The databases of the clouds."""

    def __init__(
        self,
        settings: Settings,
        processes: Processes,
        installation: Installation,
        infrastructure: Infrastructure,
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._bin = installation.bin
        self._infrastructure = infrastructure
        #: Migrations take a while: what the first cloud's made is dumped for all that come later.
        #: It stays with the virtualenv, since it belongs to its versions.
        self._dumps = installation.virtualenv / "schema"
        self._names = [name for name in _MIGRATIONS if settings.volumes or name != "cinder"]
        self._dumping = {name: threading.Lock() for name in self._names}

    def fill(self, cloud: str) -> None:
        """Make the tables and the first entries of Keystone and Nova, unless that is done."""
        mark = self._settings.state(cloud) / "databases-filled"
        if mark.exists():
            return
        self._dumps.mkdir(exist_ok=True)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: self._fill(cloud, name), self._names))
        self._load(cloud, _CELL0, "nova")
        # Both take the URLs from nova.conf: they hold passwords, and arguments are seen by all.
        self._manage(cloud, *_NOVA, "cell_v2", "map_cell0")
        self._manage(cloud, *_NOVA, "cell_v2", "create_cell", "--name", "cell1")
        self._bootstrap_keystone(cloud)
        mark.touch()

    def map_host(self, cloud: str) -> None:
        """Let Nova's scheduler know the compute host, which must have reported before."""
        rows = self._infrastructure.sql("select count(*) from host_mappings", f"{cloud}_nova_api")
        if rows == "0":
            self._manage(cloud, *_NOVA, "cell_v2", "discover_hosts")

    def reports(self, cloud: str) -> Mapping[str, float]:
        """When each of the daemons has reported last, in seconds since the epoch."""
        found: dict[str, float] = {}
        for name, column in _REPORTS.items():
            if name in self._names:
                rows = self._infrastructure.sql(
                    f"select `binary`, unix_timestamp({column}) from services "  # noqa: S608  # ours
                    f"where deleted = 0 and {column} is not null",
                    f"{cloud}_{name}",
                )
                for row in rows.splitlines():
                    binary, seen = row.split("\t")
                    found[binary] = float(seen)
        return found

    def _fill(self, cloud: str, name: str) -> None:
        dump = self._dumps / f"{name}.sql"
        with self._dumping[name]:
            if not dump.exists():
                database = self._empty(cloud, name)
                self._manage(cloud, *_MIGRATIONS[name])
                self._infrastructure.dump(database, dump)
                return
        self._load(cloud, name, name)

    def _load(self, cloud: str, name: str, dump: str) -> None:
        tables = (self._dumps / f"{dump}.sql").read_text()
        self._infrastructure.sql(tables, self._empty(cloud, name))

    def _empty(self, cloud: str, name: str) -> str:
        """An empty database, whatever an earlier attempt has left."""
        database = f"{cloud}_{name}"
        self._infrastructure.sql(f"create or replace database {database} character set utf8mb4")
        return database

    def _bootstrap_keystone(self, cloud: str) -> None:
        keystone = ("keystone-manage", "keystone.conf")
        group = grp.getgrgid(os.getegid()).gr_name
        for keys in ("fernet_setup", "credential_setup"):
            owner = (f"--keystone-user={infrastructure.me()}", f"--keystone-group={group}")
            self._manage(cloud, *keystone, keys, *owner)
        url = self._settings.url(cloud, "identity")
        urls = [f"--bootstrap-{kind}-url={url}" for kind in ("admin", "internal", "public")]
        self._manage(cloud, *keystone, "bootstrap", f"--bootstrap-region-id={REGION}", *urls)

    def _manage(self, cloud: str, program: str, file: str, *arguments: str) -> None:
        etc = self._settings.state(cloud) / "etc"
        files = ["--config-file", etc / file]
        if program == "neutron-db-manage":
            files += ["--config-file", etc / "ml2_conf.ini"]
        environment = {"OS_BOOTSTRAP_PASSWORD": self._settings.password}
        command = [self._bin / program, *files, *arguments]
        self._processes.run(command, f"{cloud}-manage", environment)
