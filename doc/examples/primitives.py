"""The primitives below the balancing: what runs where, a VM on a given cloud, its end."""

from __future__ import annotations

import asyncio
import sys

from isoneph.core.application import open_deployment
from isoneph.core.config import load_settings
from isoneph.core.errors import CloudError
from isoneph.core.model import CreateRequest, VmState


async def main(directory: str) -> None:
    """Work with the configuration in ``directory``, in the form of ``etc/isoneph``."""
    async with open_deployment(load_settings(config_dirs=[directory]).settings) as deployment:
        balancer = deployment.applications["mme"].balancer

        creation = await balancer.create(CreateRequest(type="worker", cloud="paris"))
        vm = await balancer.wait(creation.placed[0].vm.id, VmState.ACTIVE, timeout=60)
        print(vm.name, "is", vm.state, "on", vm.cloud)

        for status in await balancer.clouds():
            health = "healthy" if status.healthy else status.last_error
            print(f"{status.cloud}: {health}, VMs: {status.vms}")

        try:
            await balancer.delete(vm.id)
        except CloudError as error:
            print(f"{error.cloud} did not delete it: {error.code}: {error.message}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
