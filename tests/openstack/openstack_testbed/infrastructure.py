"""MariaDB and RabbitMQ, one of each for both clouds, apart from any that the system runs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pwd
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path

from .installation import RABBITMQ_SERVER
from .processes import Processes
from .report import Failure
from .settings import CLOUDS, Settings

#: The names of the processes, in the order in which they end.
NAMES = ("rabbitmq", "epmd", "mariadb")
#: The user of the databases and of the message queues.
USER = "testbed"
_SQL_TIMEOUT = 120


class Infrastructure:
    """What both clouds share."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self._settings = settings
        self._processes = processes
        self._socket = settings.shared / "mariadb.sock"
        self._rabbit = settings.shared / "rabbitmq"

    def start(self) -> None:
        """Start what is down, and return when all of it listens."""
        self._start_mariadb()
        self._start_rabbitmq()
        for name, seconds in (("mariadb", 60), ("rabbitmq", 90)):
            port = self._settings.shared_port(name)
            self._processes.wait_for(name, partial(listens, port), name, seconds=seconds)

    def sql(self, statement: str, database: str = "") -> str:
        """Run SQL as the databases' root; what it answers, one row a line.

        Raises:
            Failure: MariaDB refuses it.
        """
        done = subprocess.run(
            [*self._client("mariadb"), "--skip-column-names", "--batch", database],
            input=statement,
            text=True,
            capture_output=True,
            check=False,
            timeout=_SQL_TIMEOUT,
            start_new_session=True,  # Ctrl-C is for the program alone
        )
        if done.returncode:
            raise Failure(f"MariaDB: {done.stderr.strip()}")
        return done.stdout.strip()

    def dump(self, database: str, target: Path) -> None:
        """Write the tables of a database, as SQL, to a file that is there only when complete."""
        part = target.with_suffix(".part")
        with part.open("wb") as out:
            subprocess.run(
                [*self._client("mariadb-dump"), database],
                stdout=out,
                check=True,
                timeout=_SQL_TIMEOUT,
                start_new_session=True,
            )
        part.rename(target)

    def database_url(self, cloud: str, name: str) -> str:
        """Where a service finds one of its cloud's databases."""
        settings = self._settings
        where = f"{USER}:{settings.password}@127.0.0.1:{settings.shared_port('mariadb')}"
        return f"mysql+pymysql://{where}/{cloud}_{name}?charset=utf8mb4"

    def transport_url(self, cloud: str) -> str:
        """Where the services of a cloud find its message queues."""
        settings = self._settings
        where = f"{USER}:{settings.password}@127.0.0.1:{settings.shared_port('rabbitmq')}"
        return f"rabbit://{where}/{cloud}"

    def _client(self, program: str) -> list[str]:
        return [program, "--no-defaults", f"--user={me()}", f"--socket={self._socket}"]

    def _start_mariadb(self) -> None:
        data = self._settings.shared / "mariadb"
        mark = self._settings.shared / "mariadb-installed"
        if not mark.exists():
            shutil.rmtree(data, ignore_errors=True)
            data.mkdir(parents=True)
            install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}"]
            install += [f"--user={me()}", f"--auth-root-socket-user={me()}", "--skip-test-db"]
            self._processes.run(install, "mariadb-install")
            mark.touch()
        # Its own user comes in by the socket; the services' user may not touch files.
        init = self._settings.shared / "mariadb-init.sql"
        account = f"'{USER}'@'127.0.0.1'"
        init.write_text(
            f"create or replace user {account} identified by '{self._settings.password}';\n"
            + "".join(f"grant all on `{cloud}\\_%`.* to {account};\n" for cloud in CLOUDS)
        )
        command = ["mariadbd", "--no-defaults", f"--user={me()}", f"--datadir={data}"]
        command += [f"--socket={self._socket}", f"--pid-file={self._socket}.pid"]
        command += ["--bind-address=127.0.0.1", f"--port={self._settings.shared_port('mariadb')}"]
        command += [f"--init-file={init}", "--default-time-zone=+00:00", "--skip-name-resolve"]
        command += ["--max-connections=1000", "--innodb-buffer-pool-size=256M"]
        # What is committed survives the end of the process, not that of the machine.
        command += ["--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0"]
        command += ["--skip-log-bin", "--performance-schema=off"]
        self._processes.spawn("mariadb", command, {})

    def _start_rabbitmq(self) -> None:
        home, settings = self._rabbit, self._settings
        home.mkdir(parents=True, exist_ok=True)
        (home / "definitions.json").write_text(json.dumps(self._definitions()))
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{settings.shared_port('rabbitmq')}\n"
            f"load_definitions = {home}/definitions.json\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "disk_free_limit.absolute = 50MB\n"
            "log.file.level = warning\n"
            "log.console = true\n"
            "log.console.level = warning\n"
        )
        (home / "enabled_plugins").write_text("[].\n")
        (home / "env.conf").write_text("")
        epmd = settings.shared_port("epmd")
        environment = {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "testbed@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(home / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_DIST_PORT": str(settings.shared_port("rabbitmq's Erlang distribution")),
            # One scheduler that sleeps when idle is enough, and leaves the cores to the clouds.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
                "-kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }
        command = ["epmd", "-address", "127.0.0.1", "-port", epmd]
        self._processes.spawn("epmd", command, environment)
        self._processes.wait_for("epmd", lambda: listens(epmd), "epmd", seconds=20)
        self._processes.spawn("rabbitmq", [RABBITMQ_SERVER], environment)

    def _definitions(self) -> dict[str, object]:
        """Virtual hosts and users, in RabbitMQ's own form."""
        salt = os.urandom(4)
        digest = hashlib.sha256(salt + self._settings.password.encode()).digest()
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "vhosts": [{"name": cloud} for cloud in CLOUDS],
            "users": [
                {
                    "name": USER,
                    "password_hash": base64.b64encode(salt + digest).decode(),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "administrator",
                }
            ],
            "permissions": [{"user": USER, "vhost": cloud, **everything} for cloud in CLOUDS],
        }


def listens(port: int) -> bool:
    """Whether something accepts connections on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def me() -> str:
    """The name of the user that all of the testbed runs as."""
    return pwd.getpwuid(os.geteuid()).pw_name
