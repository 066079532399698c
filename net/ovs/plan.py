"""A NIC as a port of an Open vSwitch bridge, in the words of its database (ovs-vswitchd.conf.db(5)): pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from taskvisor.model.plan import VifPlan

OWNER_KEY = "taskvisor-owner"
INDEX_KEY = "taskvisor-ifindex"


@dataclass(frozen=True, kw_only=True)
class SwitchPortPlan:
    """One port with one interface of the same name. `interface_ids` are what Neutron and OVN write and look for.

    It is an access port, also without `tag`: one that is left as it comes is a trunk, whose guest could speak in every VLAN.
    """

    name: str
    bridge: str
    owner: str
    tag: int | None
    interface_ids: Mapping[str, str]


def switch_port_for(vif: VifPlan) -> SwitchPortPlan:
    """The port of a NIC: its TAP, on the operator's bridge."""
    return SwitchPortPlan(
        name=vif.tap,
        bridge=vif.bridge,
        owner=vif.owner,
        tag=vif.segment,
        interface_ids={
            "iface-id": vif.port_id,
            "iface-status": "active",
            "attached-mac": vif.mac,
            "vm-uuid": vif.instance_id,
        },
    )
