"""Which disks a guest has, and under which names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvisor.model.errors import Refused
from taskvisor.model.plan import DiskBus, DiskLayout, DiskPlan, DiskRole
from taskvisor.model.states import ImageFormat
from tests.virt.sample_guests import INSTANCE, INSTANCE_ID
from virt.layout import cdrom_bus_for, disk_layout_for, next_device

DIRECTORY = f"/srv/instances/{INSTANCE_ID}"


def test_a_guest_has_a_root_disk_and_a_seed() -> None:
    assert disk_layout_for(INSTANCE, instances_dir="/srv/instances", machine="pc-i440fx-7.2") == DiskLayout(
        directory=DIRECTORY,
        console_log=f"{DIRECTORY}/console.log",
        disks=(
            DiskPlan(
                role=DiskRole.ROOT,
                path=f"{DIRECTORY}/disk",
                format=ImageFormat.QCOW2,
                bus=DiskBus.VIRTIO,
                device="vda",
                size_bytes=10 * 2**30,
                boot_index=1,
            ),
            DiskPlan(
                role=DiskRole.SEED,
                path=f"{DIRECTORY}/disk.config",
                format=ImageFormat.RAW,
                bus=DiskBus.IDE,
                device="hda",
                size_bytes=0,
            ),
        ),
    )


def test_on_q35_the_seed_is_on_sata() -> None:
    seed = disk_layout_for(INSTANCE, instances_dir="/srv", machine="pc-q35-8.2").disk(DiskRole.SEED)
    assert (seed.bus, seed.device) == (DiskBus.SATA, "sda")


def test_a_flavor_without_a_disk_size_leaves_the_size_to_the_image() -> None:
    instance = replace(INSTANCE, flavor=replace(INSTANCE.flavor, disk_gib=0))
    assert disk_layout_for(instance, instances_dir="/srv", machine="q35").disk(DiskRole.ROOT).size_bytes == 0


@pytest.mark.parametrize(
    ("machine", "bus"),
    [("pc", DiskBus.IDE), ("pc-i440fx-7.2", DiskBus.IDE), ("q35", DiskBus.SATA), ("pc-q35-rhel9.4.0", DiskBus.SATA)],
)
def test_the_cdrom_is_on_the_bus_that_every_guest_finds(machine: str, bus: DiskBus) -> None:
    assert cdrom_bus_for(machine) is bus


@pytest.mark.parametrize("machine", ["virt-7.2", "microvm", ""])
def test_a_machine_without_a_known_cdrom_bus_is_refused(machine: str) -> None:
    with pytest.raises(Refused, match="only pc"):
        cdrom_bus_for(machine)


@pytest.mark.parametrize(
    ("bus", "taken", "device"),
    [
        (DiskBus.VIRTIO, (), "vda"),
        (DiskBus.VIRTIO, ("vda", "vdc"), "vdb"),
        (DiskBus.VIRTIO, tuple(f"vd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"), "vdaa"),
        (DiskBus.USB, ("sda",), "sdb"),
        (DiskBus.IDE, ("hda", "hdb", "hdc"), "hdd"),
    ],
)
def test_the_first_free_name_of_the_bus_is_next(bus: DiskBus, taken: tuple[str, ...], device: str) -> None:
    assert next_device(bus, taken) == device


def test_a_full_bus_takes_no_more() -> None:
    with pytest.raises(Refused, match="ide: it takes 4"):
        next_device(DiskBus.IDE, ("hda", "hdb", "hdc", "hdd"))


@given(st.lists(st.sampled_from([bus for bus in DiskBus if bus is not DiskBus.IDE]), max_size=60))
def test_names_are_unique_whatever_the_buses(buses: list[DiskBus]) -> None:
    taken: list[str] = []
    for bus in buses:
        taken.append(next_device(bus, taken))
    assert len(set(taken)) == len(buses)
