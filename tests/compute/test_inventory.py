"""What may be claimed of a host."""

from dataclasses import replace

import pytest

from taskvisor.compute.inventory import Ratios, inventory_for
from taskvisor.compute.resources.kind import ResourceChoices
from taskvisor.compute.resources.registry import open_table
from taskvisor.model.network import HostLinks
from taskvisor.model.observed import GuestSupport, HostCell, HypervisorFacts, PciDevice
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
        (ratios(reserved_memory_mib=8000), Resources(vcpus=4, memory_mib=0, disk_gib=100)),
        (ratios(vcpu_ratio=4.0, reserved_cpus=1), Resources(vcpus=12, memory_mib=8000, disk_gib=100)),
    ],
)
def test_limits_are_whole_and_less_what_is_kept_back(asked: Ratios, limits: Resources) -> None:
    assert inventory_for(FACTS, (100, 40), asked, 7.0).limits == limits


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (ratios(reserved_memory_mib=9000), "9000 of its memory_mib are to be kept back, and it has 8000"),
        (ratios(reserved_disk_gib=101), "101 of its disk_gib are to be kept back, and it has 100"),
        (ratios(vcpu_ratio=4.0, reserved_cpus=5), "5 of its vcpus are to be kept back, and it has 4"),
    ],
)
def test_a_host_that_is_to_keep_more_than_it_has_is_marked_and_gives_nothing(asked: Ratios, problem: str) -> None:
    told = inventory_for(FACTS, (100, 40), asked, 7.0)
    assert (told.problems, told.limits, told.things) == ((problem,), Resources(), {})
    assert told.total.memory_mib == 8000


CELL = HostCell(id=0, memory_mib=4096, cores=(frozenset({0, 2}), frozenset({1, 3})), pages={4: 524288, 2048: 1024})


@pytest.mark.parametrize(
    ("facts", "disk_gib", "problem"),
    [
        (replace(FACTS, cpus=0), (100, 40), "it says that it has 0 CPUs"),
        (replace(FACTS, memory_mib=-1), (100, 40), "it says that it has -1 MiB of memory"),
        (FACTS, (100, 101), "it says that 101 GiB of its disk are free, and that it has 100"),
        (FACTS, (-1, -2), "it says that it has a disk of -1 GiB, of which -2 are free"),
        (
            replace(FACTS, cpus=3, cells=(CELL,)),
            (100, 40),
            "it says that its NUMA cells have 4 CPUs, and that it has 3",
        ),
        (replace(FACTS, cells=(CELL, replace(CELL, id=1))), (100, 40), "it says that CPU 0 is in two cores"),
        (
            replace(FACTS, cells=(replace(CELL, memory_mib=100),)),
            (100, 40),
            "it says that NUMA cell 0 has 100 MiB, and pages of 4096 MiB",
        ),
        (
            replace(FACTS, cells=(replace(CELL, memory_mib=-4),)),
            (100, 40),
            "it says that NUMA cell 0 has -4 MiB, or less than no pages",
        ),
    ],
)
def test_a_host_that_says_what_cannot_be_is_marked_and_gives_nothing(
    facts: HypervisorFacts, disk_gib: tuple[int, int], problem: str
) -> None:
    told = inventory_for(facts, disk_gib, ratios(), 7.0)
    assert told.problems == (problem,)
    assert told.limits == Resources()
    assert min(amount for _, amount in told.total.amounts()) >= 0


def test_nothing_is_said_of_a_host_that_makes_sense() -> None:
    told = inventory_for(replace(FACTS, cells=(CELL,)), (100, 40), ratios(), 7.0)
    assert told.problems == ()
    assert told.limits.others == {"memory_mib@0": 2048, "pages_2048@0": 1024}


def test_further_amounts_have_their_ratios_and_reserves_too() -> None:
    asked = replace(ratios(), ratios={"memory_mib@0": 1.5}, reserved={"pages_2048@0": 24})
    told = inventory_for(replace(FACTS, cells=(CELL,)), (100, 40), asked, 7.0)
    assert told.limits.others == {"memory_mib@0": 3072, "pages_2048@0": 1000}
    assert told.total.others == {"memory_mib@0": 2048, "pages_2048@0": 1024}


def test_what_an_operator_named_is_offered_and_nothing_else() -> None:
    choices = ResourceChoices(dedicated_cpus=frozenset({1, 3, 9}), pci_devices=("10de:1db4", "0000:3b:00.0"))
    devices = (
        PciDevice(address="0000:5e:00.0", vendor_id="10de", product_id="1db4", cell=1),
        PciDevice(address="0000:3b:00.0", vendor_id="8086", product_id="10fb"),
        PciDevice(address="0000:00:1f.2", vendor_id="8086", product_id="a182"),
    )
    facts = replace(FACTS, cells=(CELL,), pci_devices=devices, support=GuestSupport(encrypted_guests=15))
    told = inventory_for(facts, (100, 40), ratios(vcpu_ratio=4.0), 7.0, table=open_table((), choices))
    assert told.things == {
        "cpu": ("cpu:1", "cpu:3"),
        "pci:8086:10fb": ("pci:0000:3b:00.0",),
        "pci:10de:1db4": ("pci:0000:5e:00.0",),
    }
    assert (told.total.vcpus, told.limits.vcpus, told.limits.others["pcpus"]) == (2, 8, 2)
    assert told.limits.others["encrypted_guests"] == 15
    assert [device.address for device in told.pci_devices] == ["0000:3b:00.0", "0000:5e:00.0"]
