"""``cinder_daemon.py OPTIONS``: Cinder's scheduler and its volume service in one process.

Apart they would take twice the memory; each does what it does otherwise.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

# First of all: it does eventlet's patching.
volume: Any = importlib.import_module("cinder.cmd.volume")

from cinder import context, objects, service  # noqa: E402  # see above
from oslo_log import log  # noqa: E402  # see above
from oslo_service import service as oslo_service  # noqa: E402  # see above

LOG = log.getLogger(__name__)


class Service(service.Service):
    """Reports under its own id; the original has one for all services of the process."""

    def report_state(self) -> None:
        try:
            own = objects.Service.get_by_id(context.get_admin_context(), self.origin_service_id)
            own.report_count += 1
            own.save(retry=False)
        except Exception:  # the database may be down; the next report comes all the same
            LOG.exception("no report")


def launch() -> None:
    """Start both and wait for their end; in the place of `cinder.cmd.volume._launch_services`."""
    launcher = oslo_service.ServiceLauncher(volume.CONF)
    launcher.launch_service(Service.create(binary="cinder-scheduler"))
    (backend,) = volume.CONF.enabled_backends
    host = f"{volume.CONF.host}@{backend}"
    launcher.launch_service(
        Service.create(host=host, service_name=backend, binary="cinder-volume", coordination=True)
    )
    launcher.wait()


volume._launch_services = launch

if __name__ == "__main__":
    sys.argv[0] = "cinder-volume"
    sys.exit(volume.main())
