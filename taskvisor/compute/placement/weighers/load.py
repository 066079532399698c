"""What a host has to do, and how well it has done lately."""

from taskvisor.compute.placement.ask import Ask, Gauge


def io_workload(_: Ask) -> Gauge:
    """Guests there that are being built, resized, snapshotted or the like, as the host counted them last."""
    return lambda host: host.inventory.stats.get("io_workload", 0) if host.inventory else 0.0


def build_failures(_: Ask) -> Gauge:
    """Builds that failed there one after the other, by the host's own fault."""
    return lambda host: host.failed_builds
