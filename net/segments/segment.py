"""What the fabric asks of every kind of network. They keep nothing; what they know is in the plan and in the kernel."""

from typing import Protocol

from net.links.link import Link
from net.links.netlink import Netlink
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan


class Segment(Protocol):
    """A network on this host, and the devices of its ports. Callers hold the network's lock.

    Every method converges, and raises as `Netlink` does; Contradiction when a name that is ours by right is a stranger's
    (left alone), DoesNotFit when this host lacks what the kind needs.
    """

    def ensure_device(self, netlink: Netlink, vif: VifPlan) -> Link:
        """The port's device is there and ours. No frame passes it yet, unless it was joined before. Nothing was made when this
        host lacks what the kind needs.
        """
        ...

    def ensure_made(self, netlink: Netlink, vif: VifPlan) -> Link | None:
        """What the port is to be joined to is there and up. The bridge; None for a kind without one."""
        ...

    def ensure_joined(self, netlink: Netlink, vif: VifPlan, device: Link) -> None:
        """The port's device is on the network, and up: called last, when its filters are there."""
        ...

    def ensure_device_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """The port's device is gone, and what was made for it alone."""
        ...

    def is_unused(self, netlink: Netlink, vif: VifPlan) -> bool:
        """No port is on the network here, and no stranger's link on what we made for it."""
        ...

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """What we made for the network is gone, but for a bridge that something was put on meanwhile."""
        ...

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """Guests of other hosts are reached where the surroundings say they are. Of no effect where no port is here."""
        ...
