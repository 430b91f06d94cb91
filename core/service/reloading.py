"""Taking a new configuration while requests go on."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from isoneph.core.application import Deployment
from isoneph.core.errors import ConfigInvalid, IsonephError
from isoneph.core.service.sockets import check_exposure
from isoneph.core.settings import Settings

LOG = logging.getLogger("isoneph.service")

#: What of the service's section is taken at the start only.
FIXED = (
    "host",
    "port",
    "graceful_timeout",
    "engine_enabled",
    "engine_interval",
    "engine_lease",
    "log_level",
    "log_format",
)


async def reload(
    deployment: Deployment,
    load_settings: Callable[[], Settings],
    sockets: Sequence[socket.socket],
) -> None:
    """Read the configuration again and have the deployment take it.

    When it is wrong, or cannot be started, the old one stays in force; the log tells why.
    Never raises.
    """
    outcome = "failed"
    try:
        settings = await asyncio.to_thread(load_settings)
        check_exposure(settings, sockets)
        _tell_fixed(deployment.settings, settings)
        await deployment.reload(settings)
        outcome = "done"
        LOG.info("the configuration is reloaded")
    except ConfigInvalid as error:
        outcome = "invalid"
        for problem in error.problems:
            LOG.error("not reloaded: %s", problem)  # noqa: TRY400 (it is one line)
    except IsonephError as error:
        LOG.error("not reloaded: %s: %s", error.code, error.message)  # noqa: TRY400 (it is one line)
    except Exception:
        LOG.exception("not reloaded")
    deployment.metrics.count("reloads", outcome=outcome)


def _tell_fixed(old: Settings, new: Settings) -> None:
    changed = [name for name in FIXED if getattr(old.service, name) != getattr(new.service, name)]
    if old.store != new.store:
        changed.append("the store")
    if changed:
        LOG.warning("only a restart changes %s", ", ".join(changed))
