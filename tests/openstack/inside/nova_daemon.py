"""``nova_daemon.py conductor|scheduler|compute OPTIONS``: Nova's own daemon, with three changes.

- `nova_virt` is added to the package ``nova.virt``: Nova loads hypervisor drivers from nowhere
  else.
- The pause between two looks for the answer to an RPC is shorter. oslo.messaging's is 0.5 s (its
  bug 2035113), and a server takes about twenty RPCs.
- nova-compute does not look at every allocation of its host at each claim, one request a server,
  to mend those of PCI devices. There are none here, and with 200 servers on the one host it would
  add 5 s to each boot.
"""

from __future__ import annotations

import importlib
import queue
import sys
import time
from pathlib import Path
from typing import Any

PAUSE = 0.02

name = sys.argv.pop(1)
# First of all: it chooses threads or eventlet, and patches what has not been imported yet.
command = importlib.import_module(f"nova.cmd.{name}")

import nova.virt  # noqa: E402  # see above
import oslo_messaging  # noqa: E402  # see above
from nova.scheduler.client import report  # noqa: E402  # see above
from oslo_messaging._drivers import amqpdriver  # noqa: E402  # see above


def get(self: Any, msg_id: str, timeout: float | None) -> Any:
    """The answer to one RPC; in the place of `ReplyWaiters.get`."""
    until = None if timeout is None else time.monotonic() + timeout
    while until is None or time.monotonic() < until:
        try:
            return self._queues[msg_id].get(block=False)
        except queue.Empty:
            time.sleep(PAUSE)
    raise oslo_messaging.MessagingTimeout(f"Timed out waiting for a reply to message ID {msg_id}")


amqpdriver.ReplyWaiters.get = get
report.SchedulerReportClient.get_allocations_for_provider_tree = lambda *_: {}
nova.virt.__path__.append(str(Path(__file__).resolve().parent / "nova_virt"))

if __name__ == "__main__":
    sys.argv[0] = f"nova-{name}"
    sys.exit(command.main())
