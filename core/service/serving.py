"""The watching process: gunicorn's master, made to watch one worker and to hand signals on."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from isoneph.core.errors import ConfigInvalid, IsonephError
from isoneph.core.service.logs import configure_logging
from isoneph.core.service.sockets import check_exposure, open_sockets
from isoneph.core.service.worker import CLOSING, Worker
from isoneph.core.settings import Settings

FAILED = 1
MISCONFIGURED = 2

#: Seconds without a sign of life after which a worker is killed and replaced.
SILENCE = 30
#: Seconds that an idle connection is kept: longer than clients' pools and proxies keep theirs.
KEEPALIVE = 75

LOG = logging.getLogger("isoneph.service")


def serve(load_settings: Callable[[], Settings]) -> int:
    """Run the service until it is told to stop; return the exit code.

    ``load_settings`` is called at the start and for each SIGHUP and raises ConfigInvalid.
    0: stopped as asked; 1: it could not start; 2: the configuration is wrong. What went wrong
    is said on standard error. For the main thread of a process that does nothing else.
    """
    try:
        settings = load_settings()
        configure_logging(settings.service.log_level, settings.service.log_format)
        sockets = open_sockets(settings.service)
        check_exposure(settings, sockets)
    except ConfigInvalid as error:
        return _refuse(MISCONFIGURED, *error.problems)
    except IsonephError as error:
        return _refuse(MISCONFIGURED, error.message)
    except OSError as error:
        return _refuse(FAILED, str(error))
    master = os.getpid()
    try:
        Server(settings, load_settings, sockets).run()
    except SystemExit as end:
        if os.getpid() != master:
            raise
        return end.code if isinstance(end.code, int) else FAILED
    return 0


def _refuse(code: int, *problems: str) -> int:
    for problem in problems:
        print(f"isoneph: {problem}", file=sys.stderr)  # noqa: T201 (there may be no log yet)
    return code


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn is to run, and how."""

    def __init__(
        self,
        settings: Settings,
        load_settings: Callable[[], Settings],
        sockets: Sequence[socket.socket],
    ) -> None:
        #: What the next worker begins with; and what it falls back on.
        self.settings = settings
        self.first_settings = settings
        self.load_settings = load_settings
        self._sockets = sockets
        super().__init__()

    def load_config(self) -> None:
        """Gunicorn's own settings."""
        service = self.settings.service
        choices: dict[str, Any] = {
            # gunicorn takes these over, so that it is us who say why an address cannot be had.
            "bind": [f"fd://{sock.detach()}" for sock in self._sockets],
            "workers": 1,
            "worker_class": Worker,
            "logger_class": Log,
            "proc_name": "isoneph",
            "timeout": SILENCE,
            "graceful_timeout": math.ceil(service.graceful_timeout + CLOSING),
            "keepalive": KEEPALIVE,
            "control_socket_disable": True,
        }
        for name, value in choices.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """The worker makes its application itself, when its deployment has started."""

    def refresh(self) -> None:
        """Let the next worker begin with the configuration as it is now, if it is right; if
        it is not, the worker that reloads says why."""
        with suppress(IsonephError):
            self.settings = self.load_settings()

    def run(self) -> None:
        """Run; ends with SystemExit."""
        Master(self).run()


class Master(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Watches one worker."""

    def __init__(self, app: Server) -> None:
        super().__init__(app)
        # A socket that systemd made is not to be unlinked; we make none that has a path.
        self.systemd = True

    def handle_int(self) -> NoReturn:
        """Stop in order, as for SIGTERM."""
        raise StopIteration

    def handle_hup(self) -> None:
        """Have the worker reload in place, instead of replacing it."""
        self.app.refresh()
        self.kill_workers(signal.SIGHUP)

    def handle_ttin(self) -> None:
        """There is always one worker."""

    def handle_ttou(self) -> None:
        """There is always one worker."""

    def handle_usr2(self) -> None:
        """There is always one worker, so no second master either."""

    def halt(self, reason: str | None = None, exit_status: int = 0) -> NoReturn:
        """Stop the worker and end; why it could not start, it has said itself."""
        try:
            self.stop()
        except HaltServer:
            exit_status = FAILED
        sys.exit(FAILED if exit_status else 0)


class Log(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Puts what gunicorn says into our own log, where its everyday remarks are for debugging."""

    def setup(self, cfg: Any) -> None:
        """See the class."""
        self.cfg = cfg
        self.error_log = LOG
        self._access_log_enabled = False

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Everyday remarks."""
        self.debug(msg, *args, **kwargs)

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """What went wrong, but for the end of a worker that has said so itself."""
        if args[1:] != (Arbiter.WORKER_BOOT_ERROR,):
            super().error(msg, *args, **kwargs)
