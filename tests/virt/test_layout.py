"""Which disks a guest has, and under which names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvisor.model.disk_backend import QCOW2_FILES, BackendKind, DiskBackend
from taskvisor.model.errors import Refused
from taskvisor.model.plan import (
    DiskBus,
    DiskContent,
    DiskLayout,
    DiskMedium,
    DiskPlan,
    DiskRole,
    DiskStorage,
    VolumePlan,
)
from taskvisor.model.records import Flavor, Instance
from taskvisor.model.states import ImageFormat, SeedKind
from tests.virt.sample_guests import INSTANCE, INSTANCE_ID
from virt.layout import cdrom_bus_for, disk_layout_for, next_device
from virt.stores.place import owner_of_name, pool_disk_at, pools_of

DIRECTORY = f"/srv/instances/{INSTANCE_ID}"

VOLUME = VolumePlan(serial="v1", path="/dev/mapper/v1", storage=DiskStorage.BLOCK)


def instance_with(**changes: object) -> Instance:
    """An instance whose flavor, image or image's properties are as said; the rest is of no interest here."""
    flavor = Flavor(name="f", vcpus=1, memory_mib=512, disk_gib=10)
    fields = {name: changes.pop(name) for name in ("disk_gib", "swap_mib", "ephemeral_gib") if name in changes}
    return replace(INSTANCE, flavor=replace(flavor, **fields), **changes)  # type: ignore[arg-type]


def disks_of(
    instance: Instance, *volumes: VolumePlan, machine: str = "pc-i440fx-7.2"
) -> list[tuple[str, str, int | None]]:
    """Of each disk, in the order of the XML: role, device, boot index."""
    layout = disk_layout_for(instance, instances_dir="/srv", machine=machine, volumes=volumes)
    return [(disk.role.value, disk.device, disk.boot_index) for disk in layout.disks]


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
                medium=DiskMedium.CDROM,
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


def test_names_go_to_root_ephemeral_swap_volumes_and_the_seed_and_volumes_stand_last() -> None:
    assert disks_of(instance_with(swap_mib=512, ephemeral_gib=2, image_properties={"hw_cdrom_bus": "usb"}), VOLUME) == [
        ("root", "vda", 1),
        ("ephemeral", "vdb", None),
        ("swap", "vdc", None),
        ("seed", "sda", None),
        ("volume", "vdd", None),
    ]


def test_the_seed_takes_the_name_after_the_volumes_when_it_shares_their_bus() -> None:
    scsi = instance_with(image_properties={"hw_disk_bus": "scsi", "hw_cdrom_bus": "scsi"})
    assert disks_of(scsi, VOLUME) == [("root", "sda", 1), ("seed", "sdc", None), ("volume", "sdb", None)]


def test_a_config_drive_with_fat_is_a_disk_before_the_volumes() -> None:
    fat = instance_with(swap_mib=64, config_drive=SeedKind.CONFIG_DRIVE_VFAT)
    assert disks_of(fat, VOLUME) == [
        ("root", "vda", 1),
        ("swap", "vdb", None),
        ("config", "vdc", None),
        ("volume", "vdd", None),
    ]
    layout = disk_layout_for(fat, instances_dir="/srv", machine="q35")
    assert layout.seed is layout.disk(DiskRole.CONFIG)
    assert (layout.seed.is_cdrom, layout.seed.path, layout.seed.content) == (
        False,
        f"/srv/{INSTANCE_ID}/disk.config",
        None,
    )


@pytest.mark.parametrize("kind", [SeedKind.NOCLOUD, SeedKind.CONFIG_DRIVE])
def test_other_seeds_are_cdroms(kind: SeedKind) -> None:
    layout = disk_layout_for(instance_with(config_drive=kind), instances_dir="/srv", machine="q35")
    assert layout.seed is layout.disk(DiskRole.SEED)
    assert layout.seed.is_cdrom


def test_a_layout_without_a_seed_says_so() -> None:
    layout = disk_layout_for(INSTANCE, instances_dir="/srv", machine="q35")
    with pytest.raises(KeyError):
        replace(layout, disks=layout.disks[:1]).seed  # noqa: B018 - it raises


def test_swap_and_ephemeral_disks_are_raw_and_as_large_as_the_flavor_says() -> None:
    layout = disk_layout_for(instance_with(swap_mib=512, ephemeral_gib=2), instances_dir="/srv", machine="q35")
    swap, ephemeral = layout.disk(DiskRole.SWAP), layout.disk(DiskRole.EPHEMERAL)
    assert (swap.format, swap.size_bytes, swap.path) == (ImageFormat.RAW, 512 * 2**20, f"/srv/{INSTANCE_ID}/disk.swap")
    assert (ephemeral.format, ephemeral.size_bytes) == (ImageFormat.RAW, 2 * 2**30)
    assert (swap.content, ephemeral.content) == (DiskContent.SWAP, DiskContent.EXT4)


def test_what_is_made_from_an_image_or_a_seed_or_lies_there_already_has_no_content_of_its_own() -> None:
    layout = disk_layout_for(INSTANCE, instances_dir="/srv", machine="q35", volumes=(VOLUME,))
    assert {disk.role: disk.content for disk in layout.disks} == {
        DiskRole.ROOT: None,
        DiskRole.SEED: None,
        DiskRole.VOLUME: None,
    }


def test_the_ephemeral_disk_of_a_windows_guest_has_a_file_system_that_windows_reads() -> None:
    windows = instance_with(ephemeral_gib=2047, image_properties={"os_type": "windows"})
    layout = disk_layout_for(windows, instances_dir="/srv", machine="q35")
    assert layout.disk(DiskRole.EPHEMERAL).content is DiskContent.VFAT
    with pytest.raises(Refused, match=r"ephemeral disk of 2048 GiB for a guest with os_type=windows: .* takes 2047"):
        disks_of(instance_with(ephemeral_gib=2048, image_properties={"os_type": "windows"}))


def test_an_iso_is_a_cdrom_that_is_booted_until_the_guest_has_installed_itself() -> None:
    iso = instance_with(image=replace(INSTANCE.image, format=ImageFormat.ISO))
    assert disks_of(iso) == [("target", "vda", 1), ("root", "hda", 2), ("seed", "hdb", None)]
    root = disk_layout_for(iso, instances_dir="/srv", machine="q35").disk(DiskRole.ROOT)
    assert (root.is_cdrom, root.size_bytes, root.device) == (True, 0, "sda")
    target = disk_layout_for(iso, instances_dir="/srv", machine="q35").disk(DiskRole.TARGET)
    assert (target.format, target.size_bytes, target.content) == (ImageFormat.RAW, 10 * 2**30, DiskContent.BLANK)


def test_a_live_system_has_no_disk_but_its_iso() -> None:
    iso = instance_with(disk_gib=0, image=replace(INSTANCE.image, format=ImageFormat.ISO))
    assert disks_of(iso) == [("root", "hda", 2), ("seed", "hdb", None)]


def test_a_seed_is_a_cdrom_also_in_a_record_that_does_not_say_so() -> None:
    seed = disk_layout_for(INSTANCE, instances_dir="/srv", machine="q35").disk(DiskRole.SEED)
    assert replace(seed, medium=DiskMedium.DISK).is_cdrom


def test_a_volume_has_the_name_that_it_asks_for_and_the_others_go_round_it() -> None:
    named = replace(VOLUME, device="/dev/vda", boot_index=1)
    assert disks_of(INSTANCE, named, VOLUME) == [
        ("root", "vdb", 1),
        ("seed", "hda", None),
        ("volume", "vda", 2),
        ("volume", "vdc", None),
    ]


@pytest.mark.parametrize("boot_index", [-1, None])
def test_a_volume_without_a_place_is_not_booted_from(boot_index: int | None) -> None:
    assert disks_of(INSTANCE, replace(VOLUME, boot_index=boot_index))[-1] == ("volume", "vdb", None)


@pytest.mark.parametrize(
    ("volumes", "properties", "reason"),
    [
        ([replace(VOLUME, boot_index=0)], {}, "boot both root and v1 at place 0"),
        ([replace(VOLUME, device="vdc")] * 2, {}, "two disks vdc"),
        ([replace(VOLUME, device="sdb")], {}, "names are like vdb"),
        ([replace(VOLUME, device="../vdb")], {}, "names are like vdb"),
        ([replace(VOLUME, device="hde")], {"hw_disk_bus": "ide"}, "bus ide takes 4"),
        ([VOLUME] * 3, {"hw_disk_bus": "ide"}, "ide: it takes 4"),
    ],
)
def test_what_can_not_be_laid_out_is_refused(
    volumes: list[VolumePlan], properties: dict[str, str], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        disks_of(instance_with(image_properties=properties), *volumes)


@pytest.mark.parametrize("key", ["hw_disk_bus", "hw_cdrom_bus"])
def test_there_is_no_ide_on_q35(key: str) -> None:
    with pytest.raises(Refused, match=f"{key}=ide: machine pc-q35-8.2 has no IDE"):
        disks_of(instance_with(image_properties={key: "ide"}), machine="pc-q35-8.2")


LVM, RBD = DiskBackend(kind=BackendKind.LVM, pool="guests"), DiskBackend(kind=BackendKind.RBD, pool="vms")


@pytest.mark.parametrize(
    ("backend", "root", "swap"),
    [
        (QCOW2_FILES, (f"{DIRECTORY}/disk", "file", "qcow2"), f"{DIRECTORY}/disk.swap"),
        (
            DiskBackend(kind=BackendKind.RAW),
            (f"{DIRECTORY}/disk.raw", "file", "raw"),
            f"{DIRECTORY}/disk.swap",
        ),
        (LVM, (f"/dev/guests/{INSTANCE_ID}_disk", "block", "raw"), f"/dev/guests/{INSTANCE_ID}_disk.swap"),
        (RBD, (f"vms/{INSTANCE_ID}_disk", "rbd", "raw"), f"vms/{INSTANCE_ID}_disk.swap"),
    ],
)
def test_a_guests_own_disks_lie_where_its_back_end_has_them(
    backend: DiskBackend, root: tuple[str, str, str], swap: str
) -> None:
    layout = disk_layout_for(
        instance_with(swap_mib=64), instances_dir="/srv/instances", machine="q35", volumes=(VOLUME,), backend=backend
    )
    disk = layout.disk(DiskRole.ROOT)
    assert (disk.path, disk.storage, disk.format) == root
    assert layout.disk(DiskRole.SWAP).path == swap
    assert layout.disk(DiskRole.SEED).path == f"{DIRECTORY}/disk.config"
    assert layout.disk(DiskRole.VOLUME).path == VOLUME.path
    assert pools_of(layout) == ((backend,) if backend.pool else ())


@pytest.mark.parametrize("backend", [LVM, RBD])
def test_an_iso_is_a_file_whatever_the_back_end_and_the_disk_beside_it_is_not(backend: DiskBackend) -> None:
    iso = instance_with(image=replace(INSTANCE.image, format=ImageFormat.ISO))
    layout = disk_layout_for(iso, instances_dir="/srv/instances", machine="q35", backend=backend)
    assert layout.disk(DiskRole.ROOT).path == f"{DIRECTORY}/disk"
    assert pool_disk_at(layout.disk(DiskRole.TARGET).path).owner == INSTANCE_ID


@pytest.mark.parametrize("path", ["/srv/disk", "/dev/sda", "disk", "../a/b", "/dev/a/b/c", "a b/c"])
def test_a_path_that_names_no_volume_and_no_rbd_image_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="no disk of ours lies there"):
        pool_disk_at(path)


@pytest.mark.parametrize("name", ["disk", "taskvisor-base_00", f"{INSTANCE_ID}", f"x{INSTANCE_ID}_disk", "_disk"])
def test_a_name_that_begins_with_no_id_is_nobodys(name: str) -> None:
    assert owner_of_name(name) is None


@pytest.mark.parametrize("backend", [LVM, RBD])
def test_a_config_drive_stays_a_file_wherever_the_guests_own_disks_are(backend: DiskBackend) -> None:
    fat = instance_with(config_drive=SeedKind.CONFIG_DRIVE_VFAT)
    layout = disk_layout_for(fat, instances_dir="/srv/instances", machine="q35", backend=backend)
    assert (layout.seed.storage, layout.seed.path) == (DiskStorage.FILE, f"{layout.directory}/disk.config")
