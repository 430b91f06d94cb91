"""Nova's own fake hypervisor, with faults that a test can switch on and off.

The rules are in the file that ``TESTBED_FAULTS`` names, read at every boot and removal; the first
whose ``match`` is found in the server's name is used. What they may say: `SERVER_KEYS` in
`openstack_testbed/faults.py`. ``spawn_error`` is raised as a hypervisor's failure is: Nova tries
again elsewhere and, with one host, ends in ERROR with "No valid host was found" or "Exceeded
maximum number of retries". ``spawn_abort`` ends in ERROR at once.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from nova import exception
from nova.virt import fake, node


def _fault(instance: Any) -> dict[str, Any]:
    try:
        rules = json.loads(Path(os.environ["TESTBED_FAULTS"]).read_text())
    except (OSError, ValueError):
        return {}
    for rule in rules:
        if re.search(rule.get("match", ""), instance.display_name or ""):
            return dict(rule)
    return {}


class FaultyDriver(fake.FakeDriver):
    """The fake driver, whose one node keeps its UUID.

    The original makes a new one in every process, with which nova-compute refuses to start a
    second time; a real driver keeps it in a file of Nova's state.
    """

    def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:
        return {node.get_local_node_uuid(): name for name in self.get_available_nodes()}

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        resources: dict[str, Any] = super().get_available_resource(nodename)
        resources["uuid"] = node.get_local_node_uuid()
        return resources

    def spawn(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        fault = _fault(instance)
        time.sleep(fault.get("spawn_delay", 0))
        if "spawn_error" in fault:
            raise exception.NovaException(fault["spawn_error"])
        if "spawn_abort" in fault:
            raise exception.BuildAbortException(
                instance_uuid=instance.uuid, reason=fault["spawn_abort"]
            )
        super().spawn(context, instance, *args, **kwargs)

    def destroy(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        fault = _fault(instance)
        time.sleep(fault.get("destroy_delay", 0))
        if "destroy_error" in fault:
            raise exception.NovaException(fault["destroy_error"])
        super().destroy(context, instance, *args, **kwargs)
