"""What a guest's options come to as hardware, and what a host that can't do it says. Each case is one wish."""

from dataclasses import replace
from typing import TypeVar

import pytest
from lxml import etree

from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.numa import GuestPlacement, PciDevicePlan
from taskvisor.model.numa_fit import numa_fit_for
from taskvisor.model.observed import GuestSupport, HostCell, HypervisorFacts
from taskvisor.model.plan import DiskStorage, VolumePlan
from taskvisor.model.records import Instance
from tests.virt.domain.test_golden import SCHEMA
from tests.virt.sample_guests import INSTANCE, PC_HOST, Q35_KVM_HOST, vif_of
from virt.domain import render
from virt.domain.config import DeviceConfig
from virt.domain.domain import DomainConfig
from virt.layout import disk_layout_for
from virt.policy import (
    HostChoices,
    domain_config_for,
    machine_for,
    numa_ask_for,
    options_of,
)

D = TypeVar("D", bound=DeviceConfig)
Texts = dict[str, str]
UEFI = {"hw_firmware_type": "uefi"}
CELLS = tuple(
    HostCell(
        id=cell,
        memory_mib=4096,
        cores=tuple(frozenset({first, first + 8}) for first in range(cell * 4, cell * 4 + 4)),
        pages={4: 1048576, 2048: 1024, 1048576: cell},
    )
    for cell in (0, 1)
)
VOLUME = VolumePlan(serial="v1", path="/dev/mapper/v1", storage=DiskStorage.BLOCK)


def asking(specs: Texts | None = None, properties: Texts | None = None, *, vcpus: int = 4) -> Instance:
    """An instance whose flavor and image ask for these."""
    flavor = replace(INSTANCE.flavor, vcpus=vcpus, extra_specs=specs or {})
    return replace(INSTANCE, flavor=flavor, image_properties=properties or {})


def config_for(
    instance: Instance,
    host: HypervisorFacts = Q35_KVM_HOST,
    *,
    placement: GuestPlacement | None = None,
    pci: tuple[PciDevicePlan, ...] = (),
    volumes: tuple[VolumePlan, ...] = (),
    choices: HostChoices | None = None,
) -> DomainConfig:
    layout = disk_layout_for(instance, instances_dir="/srv", machine=machine_for(instance, host), volumes=volumes)
    vifs = [vif_of(port) for port in instance.ports]
    return domain_config_for(
        instance, layout, vifs, host, placement=placement, pci_devices=pci, choices=choices or HostChoices()
    )


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(file=str(SCHEMA))


WISHES: list[tuple[Texts, Texts, str]] = [
    ({"hw:cpu_sockets": "2"}, {}, "cpu/topology[@sockets='2'][@cores='2'][@threads='1']"),
    ({"hw:cpu_threads": "2"}, {}, "cpu/topology[@sockets='1'][@cores='2'][@threads='2']"),
    ({"hw:cpu_max_cores": "1"}, {}, "cpu/topology[@sockets='4'][@cores='1']"),
    ({"hw:cpu_mode": "host-passthrough"}, {}, "cpu[@mode='host-passthrough']"),
    ({"hw:cpu_model": "EPYC"}, {}, "cpu[@mode='custom']/model[.='EPYC']"),
    ({"hw:cpu_flags": "+pcid,-vmx"}, {}, "cpu/feature[@name='vmx'][@policy='disable']"),
    ({"hw:maxphysaddr_mode": "emulate", "hw:maxphysaddr_bits": "42"}, {}, "cpu/maxphysaddr[@bits='42']"),
    ({"hw:pmu": "no"}, {}, "features/pmu[@state='off']"),
    ({"hw:hide_hypervisor_id": "yes"}, {}, "features/kvm/hidden[@state='on']"),
    ({"quota:cpu_shares": "512"}, {}, "cputune/shares[.='512']"),
    ({"quota:cpu_period": "10000", "quota:cpu_quota": "5000"}, {}, "cputune[period='10000'][quota='5000']"),
    ({"hw:numa_nodes": "2"}, {}, "cpu/numa/cell[@id='1'][@cpus='2-3'][@memory='262144']"),
    ({"hw:mem_page_size": "2MB"}, {}, "memoryBacking/hugepages/page[@size='2048']"),
    ({"hw:mem_page_size": "small", "hw:locked_memory": "yes"}, {}, "memoryBacking/locked"),
    ({"hw:mem_access": "shared"}, {}, "memoryBacking[source/@type='memfd']/access[@mode='shared']"),
    ({"hw:mem_encryption": "yes"}, UEFI, "launchSecurity[@type='sev']"),
    ({}, UEFI, "os[@firmware='efi']/firmware/feature[@name='secure-boot'][@enabled='no']"),
    ({}, UEFI, "os/firmware/feature[@name='enrolled-keys'][@enabled='no']"),
    ({"os:secure_boot": "required"}, UEFI, "os/firmware/feature[@name='secure-boot'][@enabled='yes']"),
    ({"os:secure_boot": "disabled"}, UEFI, "os/firmware/feature[@name='secure-boot'][@enabled='no']"),
    ({}, {"hw_machine_type": "pc-i440fx-7.2"}, "os/type[@machine='pc-i440fx-7.2']"),
    ({}, {"hw_boot_menu": "yes"}, "os/bootmenu[@enable='yes'][@timeout='3000']"),
    (
        {},
        {"kernel_id": "/srv/kernels/vmlinuz"},
        "os[kernel='/srv/kernels/vmlinuz']/cmdline[.='root=/dev/vda console=ttyS0']",
    ),
    ({}, {"os_type": "windows"}, "features/hyperv/spinlocks[@retries='8191']"),
    ({}, {"os_type": "windows"}, "clock[@offset='localtime']/timer[@name='hypervclock']"),
    ({}, {"hw_time_hpet": "yes"}, "clock/timer[@name='hpet'][@present='yes']"),
    ({"hw:tpm_version": "2.0"}, {"hw_tpm_model": "tpm-crb"}, "devices/tpm[@model='tpm-crb']/backend[@version='2.0']"),
    ({}, {"hw_disk_bus": "sata"}, "devices/disk/target[@dev='sda'][@bus='sata']"),
    ({}, {"hw_cdrom_bus": "usb"}, "devices/controller[@type='usb'][@model='qemu-xhci']"),
    ({}, {"hw_disk_bus": "scsi"}, "devices/controller[@type='scsi'][@model='virtio-scsi']/driver[@queues='4']"),
    ({}, {"hw_disk_bus": "scsi", "hw_scsi_model": "lsilogic"}, "devices/controller[@model='lsilogic']"),
    ({"quota:disk_read_iops_sec": "9"}, {}, "devices/disk/iotune[read_iops_sec='9']"),
    ({"quota:disk_total_bytes_sec_max": "9"}, {}, "devices/disk/iotune[total_bytes_sec_max='9']"),
    (
        {"quota:disk_size_iops_sec": "4096", "quota:disk_total_iops_sec": "9"},
        {},
        "devices/disk/iotune[size_iops_sec='4096']",
    ),
    ({}, {"hw_vif_model": "e1000"}, "devices/interface/model[@type='e1000']"),
    (
        {"quota:vif_inbound_average": "9", "quota:vif_inbound_peak": "10"},
        {},
        "devices/interface/bandwidth/inbound[@peak='10']",
    ),
    ({"quota:vif_outbound_average": "9"}, {}, "devices/interface/bandwidth/outbound[@average='9']"),
    ({"hw:virtio_packed_ring": "yes"}, {}, "devices/interface/driver[@packed='on']"),
    ({"hw:virtio_packed_ring": "yes"}, {}, "devices/disk/driver[@packed='on']"),
    ({"hw:watchdog_action": "reset"}, {}, "devices/watchdog[@model='i6300esb'][@action='reset']"),
    ({"hw_rng:rate_bytes": "512"}, {}, "devices/rng/rate[@bytes='512'][@period='1000']"),
    ({"hw:serial_port_count": "3"}, {}, "devices/serial/target[@port='2']"),
    (
        {"hw_video:ram_max_mb": "64"},
        {"hw_video_ram": "32", "hw_video_model": "qxl"},
        "devices/video/model[@vram='32768']",
    ),
    ({}, {"hw_video_model": "none"}, "devices/video/model[@type='none']"),
    ({}, {"hw_pointer_model": "usbtablet"}, "devices/input[@type='tablet'][@bus='usb']"),
    ({}, {"hw_input_bus": "virtio"}, "devices/input[@type='keyboard'][@bus='virtio']"),
    ({"hw:vsock": "yes"}, {}, "devices/vsock/cid[@auto='yes']"),
    ({"hw:viommu_model": "intel"}, {}, "devices/iommu[@model='intel']"),
    ({"hw:cpu_policy": "shared"}, {}, "vcpu[.='4']"),
]


@pytest.mark.parametrize(("specs", "properties", "shown"), WISHES)
def test_what_is_asked_for_is_in_the_domain(specs: Texts, properties: Texts, shown: str, schema: etree.RelaxNG) -> None:
    config = config_for(asking(specs, properties), choices=HostChoices(kernel_roots=("/srv/kernels",)))
    made = etree.fromstring(render(config))
    assert made.xpath(shown)
    schema.assertValid(made)


@pytest.mark.parametrize(
    ("specs", "properties", "absent"),
    [
        ({"hw_rng:allowed": "no"}, {}, "devices/rng"),
        ({}, {"hw_qemu_guest_agent": "no"}, "devices/channel"),
        ({}, {"hw_video_model": "none"}, "devices/graphics"),
        ({}, {"kernel_id": "/srv/kernels/vmlinuz"}, "devices/disk/boot"),
    ],
)
def test_what_is_not_wanted_is_not_in_the_domain(specs: Texts, properties: Texts, absent: str) -> None:
    choices = HostChoices(kernel_roots=("/srv/kernels",))
    assert etree.fromstring(render(config_for(asking()))).xpath(absent)
    assert not etree.fromstring(render(config_for(asking(specs, properties), choices=choices))).xpath(absent)


def test_encrypted_memory_keeps_each_virtio_device_to_what_is_shared() -> None:
    made = etree.fromstring(render(config_for(asking({"hw:mem_encryption": "yes"}, UEFI))))
    kept = {found.tag for found in made.iterfind("devices/*") if found.find("driver[@iommu='on']") is not None}
    assert kept >= {"disk", "interface", "rng", "memballoon"}
    assert made.xpath("memoryBacking/locked")


def test_a_volume_is_not_cached_and_bears_its_serial() -> None:
    made = etree.fromstring(render(config_for(asking(), volumes=(VOLUME,))))
    assert made.xpath("devices/disk[@type='block'][serial='v1']/driver[@cache='none'][@io='native']")


@pytest.mark.parametrize(
    ("specs", "properties", "reason"),
    [
        ({"hw:cpu_policy": "dedicated"}, {}, "no CPUs of the host are held"),
        ({"hw:cpu_sockets": "4", "hw:cpu_max_sockets": "2"}, {}, "hw:cpu_max_sockets is 2"),
        ({"hw:cpu_max_sockets": "1", "hw:cpu_max_cores": "1", "hw:cpu_max_threads": "1"}, {}, "do not fit"),
        ({"hw:numa_nodes": "3"}, {}, "not to be parted equally"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-2", "hw:numa_mem.0": "512"}, {}, "each of the flavor's 4 CPUs"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "511"}, {}, "add up to 511 MiB"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3"}, {}, "say both"),
        ({"hw:mem_page_size": "1GB"}, {}, "no whole pages"),
        ({"hw:mem_page_size": "large"}, {}, "are not known"),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-3"}, {}, "some and not all"),
        ({"hw:mem_encryption": "yes"}, {}, "needs hw_firmware_type"),
        ({"hw:mem_encryption": "yes"}, UEFI | {"hw_machine_type": "pc"}, "needs the machine q35"),
        ({"os:secure_boot": "required"}, UEFI | {"hw_machine_type": "pc"}, "needs the machine q35"),
        ({"hw:viommu_model": "intel"}, {"hw_machine_type": "pc"}, "needs the machine q35"),
        ({}, {"kernel_id": "/etc/shadow"}, "lies in no directory"),
        ({"hw:vif_multiqueue_enabled": "yes"}, {}, "have one queue"),
        ({"hw:vif_multiqueue_enabled": "yes"}, {"hw_vif_model": "e1000"}, "has one queue"),
        ({"pci_passthrough:alias": "gpu:1"}, {}, "0 such devices"),
    ],
)
def test_what_no_host_can_give_is_refused(specs: Texts, properties: Texts, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        config_for(asking(specs, properties))


NOTHING = GuestSupport(
    machines={"q35": "pc-q35-8.2", "pc": "pc-i440fx-8.2"},
    firmwares=frozenset({"bios"}),
    secure_boot=False,
    cpu_modes=frozenset({"host-model", "custom"}),
    cpu_models=frozenset({"Nehalem"}),
    disk_buses=frozenset({"virtio", "sata"}),
    video_models=frozenset({"vga"}),
    tpm_models=frozenset(),
    tpm_versions=frozenset(),
    memory_encryption=False,
)


@pytest.mark.parametrize(
    ("specs", "properties", "reason"),
    [
        ({}, UEFI, "firmware efi; it has bios"),
        ({}, {"hw_machine_type": "pc-q35-9.0"}, "machine type pc-q35-9.0; it has pc, q35"),
        ({"hw:cpu_mode": "maximum"}, {}, "CPU mode maximum"),
        ({"hw:cpu_model": "EPYC"}, {}, "CPU model EPYC"),
        ({}, {"hw_disk_bus": "scsi"}, "disk bus scsi"),
        ({}, {"hw_video_model": "virtio"}, "video model virtio"),
        ({"hw:tpm_version": "2.0"}, {}, "TPM model tpm-tis; it has none"),
    ],
)
def test_what_this_host_lacks_does_not_fit(specs: Texts, properties: Texts, reason: str) -> None:
    with pytest.raises(DoesNotFit, match=reason):
        config_for(asking(specs, properties), replace(Q35_KVM_HOST, support=NOTHING))


@pytest.mark.parametrize(
    ("specs", "able"),
    [({"os:secure_boot": "required"}, "secure boot"), ({"hw:mem_encryption": "yes"}, "encrypted memory")],
)
def test_a_host_that_says_that_it_cant_does_not_fit(specs: Texts, able: str) -> None:
    support = GuestSupport(secure_boot=False, memory_encryption=False)
    with pytest.raises(DoesNotFit, match=able):
        config_for(asking(specs, UEFI), replace(Q35_KVM_HOST, support=support))


def test_a_host_with_ordinary_pages_only_does_not_fit_a_guest_that_wants_large_ones() -> None:
    small = tuple(replace(cell, pages={4: 1048576}) for cell in CELLS)
    with pytest.raises(DoesNotFit, match="no large pages"):
        config_for(asking({"hw:mem_page_size": "large"}), replace(Q35_KVM_HOST, cells=small))


def test_without_kvm_a_guest_can_not_have_the_hosts_cpu() -> None:
    with pytest.raises(DoesNotFit, match="no KVM"):
        config_for(asking({"hw:cpu_mode": "host-passthrough"}), PC_HOST)


def test_the_machine_is_kept_whatever_the_host_and_the_image_say_later() -> None:
    built = replace(asking({}, {"hw_machine_type": "q35"}), machine="pc-q35-7.2")
    assert config_for(built, Q35_KVM_HOST).os.machine == "pc-q35-7.2"


def test_a_machine_is_kept_under_its_full_name() -> None:
    host = replace(PC_HOST, support=NOTHING)
    assert machine_for(asking({}, {"hw_machine_type": "q35"}), host) == "pc-q35-8.2"


def placed(specs: Texts, *, vcpus: int = 4, taken: frozenset[int] = frozenset()) -> GuestPlacement:
    instance = asking(specs, vcpus=vcpus)
    ask = numa_ask_for(instance.flavor, options_of(instance))
    assert ask is not None
    return numa_fit_for(ask, CELLS, taken=taken)


PINNED = {"hw:cpu_policy": "dedicated"}


@pytest.mark.parametrize(
    ("specs", "vcpus", "taken", "pins"),
    [
        (PINNED, 4, frozenset(), [{0, 8, 1, 9}]),
        (PINNED, 4, frozenset({0, 8}), [{1, 9, 2, 10}]),
        (PINNED, 8, frozenset({0}), [{4, 12, 5, 13, 6, 14, 7, 15}]),
        (PINNED | {"hw:cpu_thread_policy": "isolate"}, 4, frozenset(), [{0, 1, 2, 3}]),
        (PINNED | {"hw:cpu_thread_policy": "isolate"}, 3, frozenset({9}), [{0, 2, 3}]),
        (PINNED | {"hw:cpu_thread_policy": "require"}, 2, frozenset({0}), [{1, 9}]),
        (PINNED | {"hw:numa_nodes": "2"}, 4, frozenset(), [{0, 8}, {4, 12}]),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"}, 3, frozenset(), [{0, 8}]),
        ({"hw:numa_nodes": "2"}, 4, frozenset(), [set(), set()]),
    ],
)
def test_each_node_has_a_cell_and_each_pinned_cpu_one_of_its_own(
    specs: Texts, vcpus: int, taken: frozenset[int], pins: list[set[int]]
) -> None:
    placement = placed(specs, vcpus=vcpus, taken=taken)
    assert [set().union(*cell.pins.values()) for cell in placement.cells] == pins
    used = [cpu for cell in placement.cells for cpus in cell.pins.values() for cpu in cpus]
    assert len(used) == len(set(used))
    assert not taken & set(used)


@pytest.mark.parametrize(
    ("specs", "vcpus", "taken"),
    [
        (PINNED, 9, frozenset()),
        (PINNED | {"hw:cpu_thread_policy": "isolate"}, 5, frozenset()),
        (PINNED | {"hw:cpu_thread_policy": "require"}, 2, frozenset(range(8))),
        (PINNED | {"hw:numa_nodes": "2"}, 4, frozenset({0, 1, 2, 3, 8, 9, 10})),
        (PINNED | {"hw:emulator_threads_policy": "isolate"}, 8, frozenset()),
        ({"hw:mem_page_size": "4MB"}, 4, frozenset()),
    ],
)
def test_a_host_without_such_a_place_does_not_fit(specs: Texts, vcpus: int, taken: frozenset[int]) -> None:
    with pytest.raises(DoesNotFit, match=r"no .* NUMA cells of this host"):
        placed(specs, vcpus=vcpus, taken=taken)


@pytest.mark.parametrize(("asked", "size_kib"), [("large", 2048), ("any", 2048), ("2MB", 2048), ("small", None)])
def test_large_pages_are_the_largest_that_the_memory_can_be_made_of(asked: str, size_kib: int | None) -> None:
    assert placed({"hw:mem_page_size": asked}).page_size_kib == size_kib


def test_a_pinned_guest_runs_where_it_was_placed(schema: etree.RelaxNG) -> None:
    specs = PINNED | {
        "hw:numa_nodes": "2",
        "hw:cpu_realtime": "yes",
        "hw:cpu_realtime_mask": "^0",
        "hw:emulator_threads_policy": "isolate",
        "hw:mem_page_size": "large",
    }
    made = etree.fromstring(render(config_for(asking(specs), placement=placed(specs))))
    pins = {pin.get("vcpu"): pin.get("cpuset") for pin in made.iterfind("cputune/vcpupin")}
    assert pins == {"0": "0", "1": "8", "2": "4", "3": "12"}
    assert made.xpath("cputune/emulatorpin/@cpuset") == ["1"]
    assert made.xpath("cputune/vcpusched/@vcpus") == ["1-3"]
    assert made.xpath("numatune/memory/@nodeset") == ["0-1"]
    assert made.xpath("numatune/memnode[@cellid='1']/@nodeset") == ["1"]
    assert made.xpath("memoryBacking/hugepages/page/@size") == ["2048"]
    assert made.xpath("features/pmu[@state='off']")
    schema.assertValid(made)


def test_what_is_not_pinned_runs_on_the_shared_cpus_of_the_host() -> None:
    specs = {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0", "hw:emulator_threads_policy": "share"}
    choices = HostChoices(shared_cpus=frozenset({30, 31}))
    made = etree.fromstring(
        render(config_for(asking(specs, vcpus=2), placement=placed(specs, vcpus=2), choices=choices))
    )
    assert made.xpath("cputune/vcpupin/@cpuset") == ["0", "30-31"]
    assert made.xpath("cputune/emulatorpin/@cpuset") == ["30-31"]


def test_devices_that_are_held_are_given_to_the_guest() -> None:
    held = (PciDevicePlan(alias="gpu", bus=0x3B, slot=2),)
    made = etree.fromstring(render(config_for(asking({"pci_passthrough:alias": "gpu:1"}), pci=held)))
    assert made.xpath("devices/hostdev[@managed='yes']/source/address/@bus") == ["0x3b"]
