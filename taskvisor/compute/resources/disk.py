"""Room for disks, in GiB, where the host makes those of its guests."""

from taskvisor.compute.resources.kind import Asked, GuestWants, HostHas, Offered, ResourceChoices

DISK = "disk_gib"


class Disk:
    """A guest asks for all that it has (root, ephemeral, swap), a part of a GiB as a whole one; a host has the total."""

    def __init__(self, choices: ResourceChoices) -> None:
        del choices

    def asked(self, guest: GuestWants) -> Asked:
        flavor = guest.flavor
        swap_gib = -(-flavor.swap_mib // 1024)
        return Asked(amounts={DISK: flavor.disk_gib + flavor.ephemeral_gib + swap_gib})

    def offered(self, host: HostHas) -> Offered:
        return Offered(amounts={DISK: host.disk_gib[0]})
