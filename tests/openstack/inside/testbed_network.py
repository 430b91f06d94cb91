"""What makes Neutron whole without agents, which there are none of here."""

from __future__ import annotations

from typing import Any

from neutron.notifiers import nova
from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import constants as plugins
from neutron_lib.plugins import directory
from neutron_lib.plugins.ml2 import api


class Mechanism(api.MechanismDriver):
    """Says of each port and floating IP what the agents would have said in the end.

    Every port is bound, on every host but those whose name ends in ``-nobind``
    (``binding:vif_type`` is ``binding_failed`` there), to the first segment offered, and ACTIVE. A
    floating IP is ACTIVE while it leads to a port.
    """

    def initialize(self) -> None:
        for event in (events.AFTER_CREATE, events.AFTER_UPDATE):
            registry.subscribe(_report_floating_ip, resources.FLOATING_IP, event)
        # Nova hears of floating IPs, so that the server's addresses show them. Of its own changes
        # of ports it need not be told: that would add a quarter to each boot.
        notifier = nova.Notifier.get_instance()
        registry.unsubscribe(
            notifier._send_nova_notification, resources.PORT, events.BEFORE_RESPONSE
        )

    @property
    def connectivity(self) -> str:
        return str(portbindings.CONNECTIVITY_L2)

    def bind_port(self, context: Any) -> None:
        if context.host.endswith("-nobind"):
            return
        context.set_binding(
            context.segments_to_bind[0][api.ID],
            portbindings.VIF_TYPE_OVS,
            {
                portbindings.CAP_PORT_FILTER: True,
                portbindings.VIF_DETAILS_CONNECTIVITY: portbindings.CONNECTIVITY_L2,
            },
            status=constants.PORT_STATUS_ACTIVE,
        )


def _report_floating_ip(resource: str, event: str, trigger: Any, payload: Any) -> None:
    leads_somewhere = payload.latest_state["port_id"]
    directory.get_plugin(plugins.L3).update_floatingip_status(
        payload.context.elevated(),
        payload.resource_id,
        constants.FLOATINGIP_STATUS_ACTIVE if leads_somewhere else constants.FLOATINGIP_STATUS_DOWN,
    )
