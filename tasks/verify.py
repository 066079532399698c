"""One look at all that this host has, for whoever compares it with the records. Touches nothing and concludes nothing."""

from collections.abc import Iterable, Iterator

from net.plan import parse_owner
from taskvisor.flow.ports import Ports
from taskvisor.model.observed import HostSeen, LinkFacts, LinkSeen


def host_seen(ports: Ports, now: float) -> HostSeen:
    """What the host has. CannotAsk when any part of it can't be told: half a look would make the rest seem to be gone."""
    return HostSeen(
        looked_at=now,
        domains=ports.hypervisor.list_domains(),
        directories=ports.disks.list_directories(),
        links=tuple(_seen(ports.fabric.list_links())),
        dhcp=ports.fabric.list_dhcp(),
        images=ports.disks.list_images(),
        pool_disks=ports.disks.list_pool_disks(),
    )


def _seen(links: Iterable[LinkFacts]) -> Iterator[LinkSeen]:
    """Links whose alias names a guest and a port."""
    for link in links:
        owner = parse_owner(link.owner)
        if owner is not None:
            yield LinkSeen(name=link.name, instance_id=owner.instance_id, port_id=owner.port_id)
