"""`ovs`: a bridge of Open vSwitch that the operator made. Our TAP is a port of it; the bridge itself is never changed or removed.

What a host does for such a network: the port. Addresses, gateway and whatever joins hosts are the operator's (VLANs of a trunk,
OVN). Not to be used with a bridge whose ports Neutron's agent keeps: that one gives a port it knows nothing of a dead VLAN.
Seen with bridges in user space, whose frames are taken from a TAP before anything else is: there `outbound` limits are of no
effect. This kernel has no module openvswitch; with it, frames come by the same hook as to a Linux bridge.
"""

from pathlib import Path

from net.links.link import Link
from net.links.netlink import Netlink
from net.links.tap import ensure_tap, ensure_tap_absent
from net.ovs.plan import switch_port_for
from net.ovs.port import SwitchPorts
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan


class SwitchSegment:
    """Such networks on a host whose Open vSwitch's database listens at `remote`; `directory` is for notes of its own."""

    def __init__(self, remote: str, directory: Path) -> None:
        self._ports = SwitchPorts(remote, directory)

    def ensure_device(self, netlink: Netlink, vif: VifPlan) -> Link:
        """The TAP is there, once it is known that the switch can take it: a refusal leaves nothing behind.

        Errors as of `SwitchPorts.require_free` and `ensure_tap`; CannotAsk when the switch can't be asked.
        """
        self._ports.require_free(switch_port_for(vif))
        return ensure_tap(netlink, name=vif.tap, owner=vif.owner, mtu=vif.mtu, queues=vif.queues)

    def ensure_made(self, netlink: Netlink, vif: VifPlan) -> Link | None:  # noqa: ARG002 - as every kind has it
        """Nothing is made, and no server of ours is on such a bridge."""
        return None

    def ensure_joined(self, netlink: Netlink, vif: VifPlan, device: Link) -> None:
        """The TAP is up and a port of the bridge, in use by it."""
        netlink.ensure_up(device)  # first: a link that is up is taken up at once
        self._ports.ensure_port(switch_port_for(vif), tap_index=device.index)

    def ensure_device_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """The port is gone, then the TAP. Contradiction when either is another's; that one is left alone."""
        self._ports.ensure_absent(switch_port_for(vif))
        ensure_tap_absent(netlink, name=vif.tap, owner=vif.owner)

    def is_unused(self, netlink: Netlink, vif: VifPlan) -> bool:  # noqa: ARG002
        """Nothing was made for the network as such, so nothing waits for its last port."""
        return False

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """Nothing was made."""

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """The switch reaches other hosts by itself."""
