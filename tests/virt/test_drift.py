"""Each thing that somebody may change about a guest is found, and named; what libvirt makes of a definition is not."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import libvirt
import pytest
from lxml import etree

from taskvisor.model.drift import Difference, Holds
from taskvisor.model.observed import DiskFileFacts
from taskvisor.model.plan import DiskRole
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.fixtures.machine import ROOT
from tests.virt.domain.cases import cases
from tests.virt.sample_guests import INSTANCE, PC_HOST, Q35_KVM_HOST, vif_of
from virt.definition import parse_definition
from virt.domain import render
from virt.drift import FILE_CODES, NAMED, code_for, differences_for, file_differences_for
from virt.layout import disk_layout_for
from virt.policy import domain_config_for

Edit = Callable[[etree._Element], None]

SPECS = {
    "hw:cpu_sockets": "2",
    "hw:watchdog_action": "reset",
    "quota:disk_total_iops_sec": "2000",
    "quota:vif_inbound_average": "1024",
    "quota:cpu_shares": "512",
    "hw:boot_menu": "true",
}
PROPERTIES = {"hw_disk_bus": "scsi", "hw_pointer_model": "usbtablet", "hw_video_model": "virtio"}
GUEST = replace(INSTANCE, flavor=replace(INSTANCE.flavor, swap_mib=64, extra_specs=SPECS), image_properties=PROPERTIES)
HOST = replace(Q35_KVM_HOST, virt_type=PC_HOST.virt_type, machine="pc-q35-7.2")


def xml_of_guest() -> str:
    layout = disk_layout_for(GUEST, instances_dir="/srv", machine=HOST.machine)
    config = domain_config_for(GUEST, layout, [vif_of(port) for port in GUEST.ports], HOST)
    return render(config).replace('<domain type="qemu"', '<domain type="test"', 1)


@pytest.fixture(scope="module")
def test_driver() -> Iterator["libvirt.virConnect"]:
    with contextlib.closing(libvirt.open("test:///default")) as connection:
        yield connection


def one(tree: etree._Element, path: str) -> etree._Element:
    """The first element there; it must be there, or the edit would change nothing."""
    found = tree.find(path)
    assert found is not None, path
    return found


def setting(path: str, **attributes: str) -> Edit:
    def edit(tree: etree._Element) -> None:
        for name, value in attributes.items():
            one(tree, path).set(name, value)

    return edit


def saying(path: str, text: str) -> Edit:
    def edit(tree: etree._Element) -> None:
        one(tree, path).text = text

    return edit


def without(path: str) -> Edit:
    def edit(tree: etree._Element) -> None:
        found = one(tree, path)
        parent = found.getparent()
        assert parent is not None
        parent.remove(found)

    return edit


def adding(path: str, xml: str) -> Edit:
    def edit(tree: etree._Element) -> None:
        one(tree, path).append(etree.fromstring(xml))

    return edit


def in_turn(*edits: Edit) -> Edit:
    def edit(tree: etree._Element) -> None:
        for each in edits:
            each(tree)

    return edit


ROOT_DISK, SEED, NIC = "devices/disk[1]", "devices/disk[@device='cdrom']", "devices/interface[1]"
ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens
TV = "{urn:taskvisor:instance:1}"
OTHER_DISK = "<disk type='file' device='disk'><source file='/x'/><target dev='vdz' bus='virtio'/></disk>"
OTHER_NIC = "<interface type='ethernet'><mac address='52:54:00:00:00:99'/><model type='virtio'/></interface>"
PASSED_THROUGH = """
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0' bus='3' slot='0' function='0'/></source>
    </hostdev>"""
COMMAND_LINE = """
    <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-S'/></qemu:commandline>"""

CHANGES: Mapping[str, tuple[Edit, set[str]]] = {
    "more CPUs": (in_turn(saying("vcpu", "4"), setting("cpu/topology", cores="2")), {"vcpus", "cpu.topology.cores"}),
    "CPUs pinned": (setting("vcpu", cpuset="0-1"), {"vcpu.cpuset"}),
    "a CPU pinned": (adding("cputune", "<vcpupin vcpu='0' cpuset='1'/>"), {"cputune.vcpupin"}),
    "shares": (saying("cputune/shares", "2"), {"cputune.shares"}),
    "no shares": (without("cputune"), {"cputune"}),
    "more memory": (saying("memory", "1048576"), {"memory"}),
    "huge pages": (adding(".", "<memoryBacking><hugepages/></memoryBacking>"), {"memoryBacking"}),
    "another CPU": (saying("cpu/model", "Westmere"), {"cpu.model"}),
    "the host's CPU": (
        in_turn(setting("cpu", mode="host-model"), without("cpu/model")),
        {"cpu.mode", "cpu.model", "cpu.match"},
    ),
    "a CPU flag": (adding("cpu", "<feature policy='disable' name='sse4.2'/>"), {"cpu.feature"}),
    "sockets": (setting("cpu/topology", sockets="1", cores="2"), {"cpu.topology.sockets", "cpu.topology.cores"}),
    "an older board": (setting("os/type", machine="pc-q35-7.1"), {"machine"}),
    "no boot menu": (without("os/bootmenu"), {"os.bootmenu"}),
    "a kernel": (adding("os", "<kernel>/vmlinuz</kernel>"), {"os.kernel"}),
    "no ACPI": (without("features/acpi"), {"features.acpi"}),
    "a clock": (setting("clock", offset="localtime"), {"clock.offset"}),
    "a timer": (setting("clock/timer[@name='hpet']", present="yes"), {"clock.timer.present"}),
    "a serial number": (saying("sysinfo/system/entry[@name='serial']", "x"), {"sysinfo.system.entry"}),
    "an action": (saying("on_reboot", "destroy"), {"on_reboot"}),
    "no title": (without("title"), {"title"}),
    "no root disk": (without(ROOT_DISK), {"disk.missing"}),
    "another disk": (adding("devices", OTHER_DISK), {"disk.unrecorded"}),
    "another file": (setting(f"{ROOT_DISK}/source", file="/elsewhere"), {"disk.source"}),
    "another format": (setting(f"{ROOT_DISK}/driver", type="raw"), {"disk.format"}),
    "another cache": (setting(f"{ROOT_DISK}/driver", cache="none"), {"disk.cache"}),
    "discards passed over": (setting(f"{ROOT_DISK}/driver", discard="ignore"), {"disk.driver.discard"}),
    "another bus": (setting(f"{ROOT_DISK}/target", bus="sata"), {"disk.bus"}),
    "another serial": (saying(f"{ROOT_DISK}/serial", "x"), {"disk.serial"}),
    "read only": (adding(ROOT_DISK, "<readonly/>"), {"disk.readonly"}),
    "shared": (adding(ROOT_DISK, "<shareable/>"), {"disk.shareable"}),
    "never booted from": (without(f"{ROOT_DISK}/boot"), {"disk.boot-order"}),
    "booted later": (setting(f"{ROOT_DISK}/boot", order="7"), {"disk.boot-order"}),
    "unlimited": (without(f"{ROOT_DISK}/iotune"), {"disk.iotune"}),
    "limited otherwise": (saying(f"{ROOT_DISK}/iotune/total_iops_sec", "9"), {"disk.iotune.total_iops_sec"}),
    "limited": (adding(SEED, "<iotune><total_iops_sec>5</total_iops_sec></iotune>"), {"disk.iotune"}),
    "no seed": (without(SEED), {"disk.missing"}),
    "an empty drive": (without(f"{SEED}/source"), {"disk.source"}),
    "a card too few": (without(NIC), {"nic.missing"}),
    "a card too many": (adding("devices", OTHER_NIC), {"nic.unrecorded"}),
    "another MAC": (setting(f"{NIC}/mac", address="52:54:00:00:00:98"), {"nic.mac"}),
    "another link": (setting(f"{NIC}/target", dev="tap0"), {"nic.missing", "nic.unrecorded"}),
    "another card": (setting(f"{NIC}/model", type="e1000"), {"nic.model"}),
    "another MTU": (setting(f"{NIC}/mtu", size="9000"), {"nic.mtu"}),
    "a cable pulled": (adding(NIC, "<link state='down'/>"), {"nic.link"}),
    "a faster card": (setting(f"{NIC}/bandwidth/inbound", average="2"), {"nic.bandwidth.inbound.average"}),
    "no console log": (without("devices/serial/log"), {"serial.log"}),
    "another console": (adding("devices", "<serial type='pty'><target port='1'/></serial>"), {"serial.unrecorded"}),
    "no guest agent": (without("devices/channel"), {"channel.missing"}),
    "VNC to all": (
        in_turn(setting("devices/graphics", listen=ANYWHERE), setting("devices/graphics/listen", address=ANYWHERE)),
        {"graphics.listen", "graphics.listen.address"},
    ),
    "no VNC": (without("devices/graphics"), {"graphics.missing"}),
    "another screen": (setting("devices/video/model", type="vga"), {"video.model.type"}),
    "no tablet": (without("devices/input[@type='tablet']"), {"input.missing"}),
    "a lesser watchdog": (setting("devices/watchdog", action="none"), {"watchdog.action"}),
    "no randomness": (without("devices/rng"), {"rng.missing"}),
    "a device of the host": (adding("devices", PASSED_THROUGH), {"hostdev.unrecorded"}),
    "a TPM": (adding("devices", "<tpm model='tpm-tis'><backend type='emulator'/></tpm>"), {"tpm.unrecorded"}),
    "a directory": (
        adding("devices", "<filesystem type='mount'><source dir='/etc'/><target dir='x'/></filesystem>"),
        {"filesystem.unrecorded"},
    ),
    "no balloon": (setting("devices/memballoon", model="none"), {"memballoon.model"}),
    "another emulator": (saying("devices/emulator", "/usr/bin/other"), {"emulator"}),
    "another flavor": (setting(f"metadata/{TV}instance/{TV}flavor", vcpus="8"), {"metadata"}),
    "another port": (setting(f"metadata/{TV}instance/{TV}port", address="10.0.0.77"), {"metadata"}),
    "an entry": (adding(f"metadata/{TV}instance", f"<e:entry xmlns:e='{TV[1:-1]}' key='a' value='b'/>"), {"metadata"}),
    "metadata of others": (adding("metadata", "<o:x xmlns:o='urn:other'/>"), set()),
}
"""What is done to the definition, and the codes without `drift.` that tell of it."""
KEPT_BY_QEMU: Mapping[str, tuple[Edit, set[str]]] = {
    "UEFI": (setting("os", firmware="efi"), {"os.firmware"}),
    "more queues": (adding(NIC, "<driver name='vhost' queues='2'/>"), {"nic.driver"}),
    "options of QEMU": (adding(".", COMMAND_LINE), {"qemu-commandline"}),
}
"""What libvirt's test driver drops, and its QEMU driver keeps."""
LIVE: Mapping[str, Edit] = {
    "the CPU of the host": in_turn(
        setting("cpu", mode="custom", check="full"), adding("cpu", "<vendor>Intel</vendor>")
    ),
    "memory that the balloon took": adding(".", "<currentMemory unit='KiB'>1024</currentMemory>"),
    "a port for VNC": setting("devices/graphics", port="5907"),
    "a place for each device": adding(NIC, "<address type='pci' bus='0x01'/>"),
    "a path for the agent's channel": adding("devices/channel", "<source mode='bind' path='/run/x'/>"),
    "a chain of files below a disk": adding(ROOT_DISK, "<backingStore type='file'><source file='/b'/></backingStore>"),
    "the clock that the guest has set": setting("clock", adjustment="12"),
    "the board's own watchdog": adding("devices", "<watchdog model='itco' action='reset'/>"),
}
"""What a start, or the guest, makes of a definition."""


def edited(edit: Edit) -> str:
    tree = etree.fromstring(xml_of_guest())
    edit(tree)
    return etree.tostring(tree, encoding="unicode")


@contextlib.contextmanager
def defined(connection: "libvirt.virConnect", xml: str) -> Iterator[str]:
    """What libvirt makes of the definition."""
    domain = connection.defineXML(xml)
    try:
        yield domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    finally:
        domain.undefine()


def codes(found: tuple[Difference, ...]) -> set[str]:
    return {difference.code.removeprefix("drift.") for difference in found}


def test_a_guest_as_its_record_makes_it_has_no_drift(test_driver: "libvirt.virConnect") -> None:
    with defined(test_driver, xml_of_guest()) as found:
        assert differences_for(parse_definition(xml_of_guest()), parse_definition(found), None) == ()


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_found_and_named(change: str, test_driver: "libvirt.virConnect") -> None:
    edit, expected = CHANGES[change]
    with defined(test_driver, edited(edit)) as found:
        assert codes(differences_for(parse_definition(xml_of_guest()), parse_definition(found), None)) == expected


@pytest.mark.parametrize("change", KEPT_BY_QEMU)
def test_what_only_qemu_keeps_is_found_and_named_too(change: str) -> None:
    edit, expected = KEPT_BY_QEMU[change]
    assert codes(differences_for(parse_definition(xml_of_guest()), parse_definition(edited(edit)), None)) == expected


@pytest.mark.parametrize("change", LIVE)
def test_what_a_start_makes_of_a_definition_is_no_drift(change: str) -> None:
    wanted = parse_definition(xml_of_guest())
    assert differences_for(wanted, wanted, parse_definition(edited(LIVE[change]))) == ()


def test_it_is_said_from_when_and_until_when_a_difference_holds() -> None:
    as_recorded, changed = (
        parse_definition(xml_of_guest()),
        parse_definition(edited(setting(f"{NIC}/mtu", size="9000"))),
    )

    def holds(persistent: str, live: str | None) -> list[tuple[Holds, str | None]]:
        by_name = {"recorded": as_recorded, "changed": changed, "other": other, None: None}
        found = differences_for(as_recorded, by_name[persistent], by_name[live])
        return [(one.holds, one.found) for one in found]

    other = parse_definition(edited(setting(f"{NIC}/mtu", size="68")))
    assert holds("changed", None) == [(Holds.NEXT_START, "9000")]
    assert holds("changed", "recorded") == [(Holds.NEXT_START, "9000")]
    assert holds("recorded", "changed") == [(Holds.UNTIL_NEXT_START, "9000")]
    assert holds("changed", "changed") == [(Holds.ALWAYS, "9000")]
    assert holds("changed", "other") == [(Holds.NEXT_START, "9000"), (Holds.UNTIL_NEXT_START, "68")]


def test_a_domain_that_is_not_defined_is_compared_as_it_runs() -> None:
    as_recorded, changed = parse_definition(xml_of_guest()), parse_definition(edited(setting(f"{NIC}/mtu", size="68")))
    (found,) = differences_for(as_recorded, None, changed)
    assert (found.code, found.holds) == ("drift.nic.mtu", Holds.UNTIL_NEXT_START)


def test_a_password_is_not_read_back_and_so_is_no_drift() -> None:
    with_password = parse_definition(edited(setting("devices/graphics", passwd="secret")))
    assert differences_for(with_password, parse_definition(xml_of_guest()), None) == ()


def test_of_the_url_of_an_image_no_secret_is_told() -> None:
    image = f"metadata/{TV}instance/{TV}image"
    signed = parse_definition(edited(setting(image, url="https://me:pass@images.test/x?signature=secret")))
    (found,) = differences_for(parse_definition(xml_of_guest()), signed, None)
    assert found.code == "drift.metadata"
    assert "secret" not in str(found)
    assert "pass" not in str(found)


@pytest.mark.parametrize(("wanted", "found", "same"), [("q35", "pc-q35-9.0", True), ("pc", "pc-q35-9.0", False)])
def test_the_short_name_of_a_board_is_what_it_was_resolved_to(wanted: str, found: str, same: bool) -> None:
    of_wanted, of_found = (parse_definition(edited(setting("os/type", machine=name))) for name in (wanted, found))
    assert (differences_for(of_wanted, of_found, None) == ()) is same


def test_all_of_a_device_that_is_gone_is_one_difference() -> None:
    (found,) = differences_for(parse_definition(xml_of_guest()), parse_definition(edited(without(ROOT_DISK))), None)
    assert found == Difference(
        code="drift.disk.missing", place="disk[sda]", recorded="", found=None, holds=Holds.NEXT_START
    )


def test_every_place_of_every_golden_guest_has_a_code_without_what_tells_one_from_another() -> None:
    places = {place for case in cases().values() for place in _places(case.to_xml())}
    odd = [
        place
        for place in places
        if not set(code_for(place)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    ]
    assert odd == []


def _places(xml: str) -> Iterator[str]:
    if xml.startswith("<domain "):
        yield from parse_definition(xml).facts


def test_what_is_named_is_named_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "verify.md").read_text()
    assert [name for name in (*NAMED.values(), *FILE_CODES) if f"`drift.{name}`" not in runbook] == []


LAYOUT = disk_layout_for(GUEST, instances_dir="/srv", machine=HOST.machine)
SHA256 = str(GUEST.image.sha256)
FILES: Mapping[str, DiskFileFacts | None] = {
    disk.path: DiskFileFacts(
        format=disk.format,
        virtual_bytes=disk.size_bytes or 1,
        base_path=f"/cache/{SHA256}" if disk.role is DiskRole.ROOT else None,
    )
    for disk in LAYOUT.disks
}


def file_codes(role: DiskRole, **changes: object) -> set[str]:
    path = LAYOUT.disk(role).path
    seen = FILES[path]
    assert seen is not None
    return codes(file_differences_for(GUEST, LAYOUT, {**FILES, path: replace(seen, **changes)}))  # type: ignore[arg-type]


def test_the_files_of_a_guest_as_it_was_planned_have_no_drift() -> None:
    assert file_differences_for(GUEST, LAYOUT, FILES) == ()


def test_what_was_done_to_the_files_of_a_guest_is_found_and_named() -> None:
    seed = LAYOUT.disk(DiskRole.SEED).path
    assert codes(file_differences_for(GUEST, LAYOUT, {**FILES, seed: None})) == {"disk-file.missing"}
    assert file_codes(DiskRole.ROOT, format=ImageFormat.RAW) == {"disk-file.format"}
    assert file_codes(DiskRole.ROOT, virtual_bytes=5) == {"disk-file.size"}
    assert file_codes(DiskRole.SWAP, virtual_bytes=5) == {"disk-file.size"}
    assert file_codes(DiskRole.SWAP, format=ImageFormat.QCOW2) == set()  # a guest may write any header on a raw disk
    assert file_codes(DiskRole.ROOT, base_is_there=False) == {"disk-file.base-missing"}
    assert file_codes(DiskRole.ROOT, base_path="/cache/other") == {"disk-file.base"}
    assert file_codes(DiskRole.ROOT, base_path=None) == set()  # flattened: all of it is in the file


@pytest.mark.parametrize("image", [ImageSource(url="file:///x"), replace(GUEST.image, format=ImageFormat.VMDK)])
def test_a_disk_whose_base_bears_another_name_for_a_reason_has_no_drift(image: ImageSource) -> None:
    other = replace(GUEST, image=image)
    root = LAYOUT.disk(DiskRole.ROOT).path
    seen = FILES[root]
    assert seen is not None
    assert file_differences_for(other, LAYOUT, {root: replace(seen, base_path="/cache/converted")}) == ()
