"""``cinder_daemon.py OPTIONS``: Cinder's scheduler and its volume service in one process.

Apart they would take twice the memory; each does what it does otherwise.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

# First of all: it does eventlet's patching.
volume: Any = importlib.import_module("cinder.cmd.volume")

from cinder import service  # noqa: E402  # see above
from oslo_service import service as oslo_service  # noqa: E402  # see above


def launch() -> None:
    """Start both and wait for their end; in the place of `cinder.cmd.volume._launch_services`."""
    launcher = oslo_service.ServiceLauncher(volume.CONF)
    launcher.launch_service(service.Service.create(binary="cinder-scheduler"))
    (backend,) = volume.CONF.enabled_backends
    volume._launch_service(launcher, backend)
    launcher.wait()


volume._launch_services = launch

if __name__ == "__main__":
    sys.argv[0] = "cinder-volume"
    sys.exit(volume.main())
