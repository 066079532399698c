"""How many queues a NIC has: of its TAP on the host and of its card, which must agree. By Nova's rules."""

from taskvisor.model.errors import Refused
from taskvisor.model.network import Port
from taskvisor.model.records import Instance
from virt.domain.interface import InterfaceModel
from virt.policy.guest import options_of

MOST_QUEUES = 256
"""Of a TAP: the kernel's MAX_TAP_QUEUES (drivers/net/tap.c, tun.c)."""


def queues_for(port: Port, instance: Instance) -> int:
    """What the port says, where it says more than one; else one for each CPU if the port (0) or the guest's options say so.

    Refused when the port says what no TAP has, or more than one for a card other than virtio, which has one.
    """
    if not 0 <= port.queues <= MOST_QUEUES:
        raise Refused(f"queues {port.queues} of port {port.id}: must be 0 (one for each CPU) to {MOST_QUEUES}")
    options = options_of(instance).nic
    if (options.model or InterfaceModel.VIRTIO) is not InterfaceModel.VIRTIO:
        if port.queues > 1:
            raise Refused(f"queues {port.queues} of port {port.id}: a card of model {options.model} has one")
        return 1
    if port.queues > 1:
        return port.queues
    by_cpus = port.queues == 0 or options.multiqueue
    return min(instance.flavor.vcpus, MOST_QUEUES) if by_cpus else 1
