"""isoneph as a library: create, list, explain and delete VMs."""

from __future__ import annotations

import asyncio
import sys

from isoneph.core.application import open_deployment
from isoneph.core.config import load_settings
from isoneph.core.model import CreateRequest


async def main(directory: str) -> None:
    """Work with the configuration in ``directory``, in the form of ``etc/isoneph``."""
    async with open_deployment(load_settings(config_dirs=[directory]).settings) as deployment:
        balancer = deployment.applications["mme"].balancer

        creation = await balancer.create(CreateRequest(type="worker", count=3, key="example"))
        for placed in creation.placed:
            print("created", placed.vm.name, "on", placed.vm.cloud)

        for verdict in (await balancer.explain(CreateRequest(type="worker"))).verdicts:
            print("next:", verdict.candidate, [reason.text for reason in verdict.reasons])

        vms, unreachable = await balancer.list()
        print(len(vms), "VMs; clouds that did not answer:", list(unreachable))
        for vm in vms:
            await balancer.delete(vm.id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
