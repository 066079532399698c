"""How much a host has left: a weight above 0 spreads guests, one below packs them."""

from taskvisor.compute.placement.ask import Ask, Gauge
from taskvisor.model.records import Host


def free_memory(_: Ask) -> Gauge:
    return lambda host: host.inventory.limits.memory_mib - host.used.memory_mib if host.inventory else 0.0


def free_cpus(_: Ask) -> Gauge:
    return lambda host: host.inventory.limits.vcpus - host.used.vcpus if host.inventory else 0.0


def free_disk(_: Ask) -> Gauge:
    return lambda host: host.inventory.limits.disk_gib - host.used.disk_gib if host.inventory else 0.0


def instances(_: Ask) -> Gauge:
    def gauge(host: Host) -> float:
        return host.instances

    return gauge
