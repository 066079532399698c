"""What of a host a guest would have for itself: CPUs, pages, cells, devices; and every reason why not."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from taskvisor.compute.inventory import Ratios, inventory_for
from taskvisor.compute.resources.encrypted import UNTOLD
from taskvisor.compute.resources.kind import GuestWants, ResourceChoices
from taskvisor.compute.resources.registry import open_table
from taskvisor.compute.resources.table import OUR_TABLE
from taskvisor.compute.resources.things import claim_for, wants_things
from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.numa import CpuThreadPolicy, GuestCell, NumaAsk, PageSize, PciAsk, PciDevicePlan
from taskvisor.model.observed import GuestSupport, HostCell, HypervisorFacts, PciDevice
from taskvisor.model.records import Claim, Flavor, Host, Resources
from taskvisor.model.states import VirtType

ME, OTHER = InstanceId("me"), InstanceId("other")
CELLS = tuple(
    HostCell(
        id=cell,
        memory_mib=4096,
        cores=tuple(frozenset({first, first + 8}) for first in range(cell * 4, cell * 4 + 4)),
        pages={4: 524288, 2048: 1024},
    )
    for cell in (0, 1)
)
GPUS = (
    PciDevice(address="0000:3b:00.0", vendor_id="10de", product_id="1db4", cell=0),
    PciDevice(address="0000:5e:02.1", vendor_id="10de", product_id="1db4", cell=1),
)
FACTS = HypervisorFacts(
    cpus=16,
    memory_mib=8192,
    arch="x86_64",
    virt_type=VirtType.KVM,
    hypervisor_version="9.0.0",
    emulator="/usr/bin/qemu-system-x86_64",
    machine="q35",
    domains=0,
    cells=CELLS,
    pci_devices=GPUS,
)
DEDICATED = frozenset({1, 2, 3, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15})  # of cell 0 all but a core
TABLE = open_table(
    (),
    ResourceChoices(
        dedicated_cpus=DEDICATED, pci_devices=("10de:1db4",), pci_aliases={"gpu": "10de:1db4"}, guest_overhead_mib=100
    ),
)
RATIOS = Ratios(vcpu_ratio=4.0, memory_ratio=1.0, disk_ratio=1.0, reserved_memory_mib=0, reserved_disk_gib=0)
HOST = Host(
    name=HostName("h1"),
    inventory=inventory_for(FACTS, (100, 100), RATIOS, 1.0, table=TABLE),
    used=Resources(),
    instances=0,
    up=True,
)
FLAVOR = Flavor(name="x", vcpus=2, memory_mib=1024, disk_gib=1)
TWO_CPUS = GuestCell(id=0, vcpus=frozenset({0, 1}), memory_mib=1024)
PINNED = NumaAsk(cells=(TWO_CPUS,), pinned=frozenset({0, 1}))


def claimed(wants: GuestWants, *, host: Host = HOST, held: Mapping[str, InstanceId] | None = None) -> Claim:
    return claim_for(host, ME, wants, TABLE, held or {})


def test_a_pinned_guest_has_its_cpus_and_memory_of_their_cell() -> None:
    claim = claimed(GuestWants(flavor=FLAVOR, numa=PINNED))
    assert claim.things == ("cpu:1", "cpu:9")
    assert claim.resources == Resources(memory_mib=1124, disk_gib=1, others={"pcpus": 2, "memory_mib@0": 1024})
    assert claim.place is not None
    assert claim.place.numa is not None
    assert claim.place.numa.cells[0].pins == {0: {1}, 1: {9}}
    assert claim.place.things == claim.things


def test_cpus_that_somebody_holds_are_left_alone() -> None:
    wants = GuestWants(flavor=FLAVOR, numa=PINNED)
    assert claimed(wants, held={"cpu:1": OTHER}).things == ("cpu:2", "cpu:10")


def test_a_guest_that_is_alone_on_its_cores_pays_for_their_threads() -> None:
    isolated = replace(PINNED, thread_policy=CpuThreadPolicy.ISOLATE)
    claim = claimed(GuestWants(flavor=FLAVOR, numa=isolated))
    assert claim.things == ("cpu:1", "cpu:2", "cpu:9", "cpu:10")
    assert claim.resources.others["pcpus"] == 4


def test_large_pages_are_claimed_of_the_cell_and_those_that_are_gone_are_not_had() -> None:
    paged = NumaAsk(cells=(TWO_CPUS,), page_size=PageSize.LARGE)
    assert claimed(GuestWants(flavor=FLAVOR, numa=paged)).resources.others == {"pages_2048@0": 512}
    used = replace(HOST, used=Resources(others={"pages_2048@0": 513}))
    assert claimed(GuestWants(flavor=FLAVOR, numa=paged), host=used).resources.others == {"pages_2048@1": 512}


def test_memory_of_a_cell_is_what_is_not_set_aside_as_pages() -> None:
    large = NumaAsk(cells=(replace(TWO_CPUS, memory_mib=2049),))
    with pytest.raises(DoesNotFit, match="no 1 NUMA cells of this host have room for 0 CPUs of their own and 2049 MiB"):
        claimed(GuestWants(flavor=FLAVOR, numa=large))


def test_devices_near_the_guests_memory_come_first() -> None:
    far = frozenset(range(16)) - frozenset({4, 12})
    held = {f"cpu:{cpu}": OTHER for cpu in far}
    wants = GuestWants(flavor=FLAVOR, numa=PINNED, pci=(PciAsk(alias="gpu", count=1),))
    claim = claimed(wants, held=held)
    assert claim.things == ("cpu:4", "cpu:12", "pci:0000:5e:02.1")
    assert claim.place is not None
    assert claim.place.pci_devices == (PciDevicePlan(alias="gpu", bus=0x5E, slot=2, function=1),)
    assert claim.place.pci_devices[0].address == "0000:5e:02.1"


def test_devices_are_asked_by_alias_and_by_vendor_and_product_together() -> None:
    asks = (PciAsk(alias="gpu", count=1), PciAsk(alias="10de:1db4", count=1))
    claim = claimed(GuestWants(flavor=FLAVOR, pci=asks))
    assert claim.place is not None
    assert [(plan.alias, plan.address) for plan in claim.place.pci_devices] == [
        ("gpu", "0000:3b:00.0"),
        ("10de:1db4", "0000:5e:02.1"),
    ]


def test_every_reason_is_told() -> None:
    wants = GuestWants(flavor=FLAVOR, numa=PINNED, pci=(PciAsk(alias="gpu", count=2),))
    held = {f"cpu:{cpu}": OTHER for cpu in range(16)} | {"pci:0000:3b:00.0": OTHER}
    with pytest.raises(DoesNotFit, match=r"no 1 NUMA cells .*; pci:10de:1db4 2 asked, 1 of 2 free"):
        claimed(wants, held=held)


def test_a_host_that_set_no_cpus_aside_says_so() -> None:
    bare = replace(HOST, inventory=inventory_for(FACTS, (100, 100), RATIOS, 1.0))
    with pytest.raises(DoesNotFit, match="it has no CPUs for pinned guests"):
        claimed(GuestWants(flavor=FLAVOR, numa=PINNED), host=bare)
    unknown = replace(HOST, inventory=inventory_for(replace(FACTS, cells=()), (100, 100), RATIOS, 1.0))
    with pytest.raises(DoesNotFit, match="its NUMA cells are not known"):
        claimed(GuestWants(flavor=FLAVOR, numa=PINNED), host=unknown)


def test_an_alias_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"alias=fpga: no such alias; known are: gpu"):
        TABLE.asked(GuestWants(flavor=FLAVOR, pci=(PciAsk(alias="fpga", count=1),)))


def test_an_ordinary_guest_wants_no_things_and_its_claim_is_of_amounts_only() -> None:
    wants = GuestWants(flavor=FLAVOR)
    assert not wants_things(wants, OUR_TABLE)
    assert wants_things(GuestWants(flavor=FLAVOR, numa=PINNED), OUR_TABLE)
    claim = claimed(wants)
    assert (claim.things, claim.place) == ((), None)
    assert claim.resources == Resources(vcpus=2, memory_mib=1124, disk_gib=1)


def test_a_guest_with_encrypted_memory_claims_a_context() -> None:
    assert TABLE.resources_for(GuestWants(flavor=FLAVOR, encrypted=True)).others == {"encrypted_guests": 1}


@pytest.mark.parametrize(
    ("support", "contexts"),
    [
        (GuestSupport(memory_encryption=True, encrypted_guests=15), 15),
        (GuestSupport(memory_encryption=True), UNTOLD),
        (GuestSupport(memory_encryption=False), None),
        (GuestSupport(), None),
    ],
)
def test_a_host_has_the_contexts_of_its_firmware(support: GuestSupport, contexts: int | None) -> None:
    told = inventory_for(replace(FACTS, support=support), (100, 100), RATIOS, 1.0)
    assert told.total.others.get("encrypted_guests") == contexts
