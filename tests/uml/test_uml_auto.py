from __future__ import annotations

from dataclasses import replace

from isoneph.core.clock import SystemClock
from isoneph.core.testing import build_plugin, make_environment
from isoneph.core.testing.associations import Door, RecordingHandler
from isoneph.core.traffic import Address
from isoneph.plugins.transports.auto import AutoTransport
from isoneph.plugins.transports.kernel import KernelTransport
from isoneph.plugins.transports.userland import UserlandTransport


async def test_auto_takes_the_kernel_where_it_has_sctp() -> None:
    environment = make_environment("auto", clock=SystemClock())
    parts = {
        "kernel": build_plugin(KernelTransport, environment=environment),
        "userland": build_plugin(UserlandTransport, environment=environment),
    }
    auto = AutoTransport({}, replace(environment, parts=parts))
    await auto.start()
    listener = await auto.listen([Address("127.0.0.1", 0)], Door())
    client = RecordingHandler()
    await auto.connect(listener.addresses, client)
    assert auto.summary.startswith("SCTP of the kernel")
    assert len(client.up.remote) == 1
    await auto.close()
    assert client.endings
