"""One look at all that this host has, for whoever compares it with the records. Touches nothing and concludes nothing."""

from collections.abc import Iterable, Iterator

from net.plan import parse_owner
from tasks.drift import drifts_of
from tasks.plugging import plug_lacks_of
from taskvisor.flow.ports import Ports
from taskvisor.model.observed import HostSeen, LinkFacts, LinkSeen
from taskvisor.model.records import Instance


def host_seen(ports: Ports, now: float, instances: Iterable[Instance] = ()) -> HostSeen:
    """What the host has, and which of `instances`, recorded there, are not as their records make them.

    CannotAsk when any part of it can't be told: half a look would make the rest seem to be gone.
    """
    domains, here = ports.hypervisor.list_domains(), tuple(instances)
    return HostSeen(
        looked_at=now,
        domains=domains,
        directories=ports.disks.list_directories(),
        links=tuple(_seen(ports.fabric.list_links())),
        dhcp=ports.fabric.list_dhcp(),
        images=ports.disks.list_images(),
        pool_disks=ports.disks.list_pool_disks(),
        drifts=drifts_of(ports, here, frozenset(domain.instance_id for domain in domains if domain.owned)),
        volumes=ports.volumes.list_connected(),
        lacks=plug_lacks_of(ports, here, domains),
    )


def _seen(links: Iterable[LinkFacts]) -> Iterator[LinkSeen]:
    """Links whose alias names a guest and a port."""
    for link in links:
        owner = parse_owner(link.owner)
        if owner is not None:
            yield LinkSeen(name=link.name, instance_id=owner.instance_id, port_id=owner.port_id)
