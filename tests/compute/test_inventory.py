"""What may be claimed of a host."""

import pytest

from taskvisor.compute.inventory import Ratios, inventory_for
from taskvisor.model.network import HostLinks
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.records import Inventory, Resources
from taskvisor.model.states import VirtType

FACTS = HypervisorFacts(
    cpus=4,
    memory_mib=8000,
    arch="x86_64",
    virt_type=VirtType.KVM,
    hypervisor_version="9.0.0",
    emulator="/usr/bin/qemu-system-x86_64",
    machine="q35",
    domains=3,
)


def ratios(**fields: float) -> Ratios:
    known = {
        "vcpu_ratio": 1.0,
        "memory_ratio": 1.0,
        "disk_ratio": 1.0,
        "reserved_memory_mib": 0,
        "reserved_disk_gib": 0,
    }
    return Ratios(**{**known, **fields})  # type: ignore[arg-type]


def test_an_inventory_tells_what_there_is_and_what_may_be_claimed() -> None:
    asked = ratios(vcpu_ratio=4.0, memory_ratio=1.5, disk_ratio=2.0, reserved_memory_mib=512, reserved_disk_gib=10)

    assert inventory_for(FACTS, (100, 40), asked, 7.0) == Inventory(
        total=Resources(vcpus=4, memory_mib=8000, disk_gib=100),
        limits=Resources(vcpus=16, memory_mib=12_000 - 512, disk_gib=190),
        arch="x86_64",
        virt_type=VirtType.KVM,
        hypervisor_version="9.0.0",
        domains=3,
        disk_free_gib=40,
        reported_at=7.0,
    )


def test_an_inventory_tells_what_the_host_is_connected_to() -> None:
    links = HostLinks(uplinks={"physnet2": "eth2", "physnet1": "eth1"}, tunnel_address="192.0.2.1")
    told = inventory_for(FACTS, (100, 40), ratios(), 7.0, links)
    assert (told.physical_networks, told.tunnel_address) == (("physnet1", "physnet2"), "192.0.2.1")


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        (ratios(), Resources(vcpus=4, memory_mib=8000, disk_gib=100)),
        (ratios(vcpu_ratio=0.3), Resources(vcpus=1, memory_mib=8000, disk_gib=100)),
        (ratios(reserved_memory_mib=9000), Resources(vcpus=4, memory_mib=0, disk_gib=100)),
        (ratios(reserved_disk_gib=101), Resources(vcpus=4, memory_mib=8000, disk_gib=0)),
    ],
)
def test_limits_are_whole_and_never_below_nothing(asked: Ratios, limits: Resources) -> None:
    assert inventory_for(FACTS, (100, 40), asked, 7.0).limits == limits
