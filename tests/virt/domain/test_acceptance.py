"""libvirt takes every domain that we show, and gives back all that was said, in the order in which it was said.

A wrong name, value or place is at times refused and at times ignored: what is ignored is not given back. libvirt's test
driver and, marked real, its QEMU driver, which also asks the QEMU of the machine what that can do. What needs nothing of
the host but QEMU is started as well: QEMU refuses combinations that libvirt lets pass.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from taskvisor.model.states import VirtType
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.virt.domain.cases import cases
from virt.domain.config import DeviceConfig
from virt.domain.disk import DiskConfig
from virt.domain.disk_source import FileSourceConfig
from virt.domain.domain import DomainConfig

DOMAINS = {name: config for name, config in cases().items() if isinstance(config, DomainConfig)}


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the QEMU driver takes a case not, in libvirt's words; `unless` is there on a machine where it does."""

    reason: str
    unless: Path | None = None


REFUSED: Mapping[str, Refusal] = {
    "sev": Refusal(reason="SEV launch security is not supported with this QEMU binary", unless=Path("/dev/sev")),
    "sev_es": Refusal(reason="SEV launch security is not supported with this QEMU binary", unless=Path("/dev/sev")),
    "tpm_1": Refusal(reason=r"TPM version '1\.2' is not supported", unless=Path("/usr/bin/swtpm")),
    "tpm_2": Refusal(reason=r"TPM version '2\.0' is not supported", unless=Path("/usr/bin/swtpm")),
    "spice_encrypted": Refusal(reason=r"TLS is disabled in qemu\.conf"),
    "video_gop": Refusal(reason="does not support video model 'gop'"),  # bhyve has it
    "walkthrough": Refusal(reason="Cannot check QEMU binary", unless=Path("/usr/libexec/qemu-kvm")),
    "kvm_on_q35": Refusal(reason="Cannot check QEMU binary", unless=Path("/usr/libexec/qemu-kvm")),
}

FORGOTTEN = {"walkthrough": ["domain/cpu/model is gone"]}
"""What libvirt of 2016 kept and today's does not: how to fall back from a model that is not named."""


NEEDS: Mapping[str, frozenset[str]] = {
    "KVM": frozenset({"cpu_host_passthrough", "iommu", "windows"}),
    "a CPU with pcid": frozenset({"cpu_exact", "cpu_minimum"}),
    "a firmware's files or description": frozenset(
        {"uefi_secure", "uefi_insecure", "uefi_by_path", "uefi_stateless", "bios_chosen"}
    ),
    "files and devices": frozenset(
        {
            *("emulated_on_pc", "no_nics", "hostile_text", "second_serial", "boot_from_kernel", "disk_tuned"),
            *("disk_on_virtio_scsi", "disk_on_sata", "disk_on_ide", "disk_on_usb", "disk_limits", "serial_ports"),
        }
    ),
    "secrets, servers or certificates": frozenset(
        {"disk_encrypted", "disk_on_rbd", "disk_on_iscsi", "disk_on_nbd", "serial_over_tls"}
    ),
    "links": frozenset({"nic_tuned", "nic_cards", "nic_macvtap", "nic_on_vhost_user"}),
    "devices to give away": frozenset({"nic_of_the_host", "hostdev_pci", "hostdev_mdev"}),
    "vhost-vsock": frozenset({"virtio_transitional", "virtio_non_transitional", "vsock_at_any_address"}),
    "virtiofsd": frozenset({"directories"}),
    "a GPU": frozenset({"video_3d"}),
    "several NUMA nodes, or numad": frozenset({"numa_cells", "numa_restrictive", "cpu_quotas"}),
    "huge pages, or leave to lock memory": frozenset({"memory_huge_pages", "memory_anonymous"}),
    "performance counters": frozenset({"perf_events"}),
    "a cgroup of that name": frozenset({"perf_one_event"}),
    "SMBIOS tables of its own": frozenset({"boot_from_network"}),
    "SELinux": frozenset({"labels"}),
    "a directory for sockets": frozenset({"channels", "vnc_at_a_socket", "vnc_at_another_socket"}),
}
"""What a guest needs that the host of a test may lack: such a case is defined and not started (disks: see below)."""

STARTED = [name for name in DOMAINS if name not in REFUSED and not any(name in names for names in NEEDS.values())]


@pytest.fixture(scope="module")
def test_driver() -> Iterator["libvirt.virConnect"]:
    with contextlib.closing(libvirt.open("test:///default")) as connection:
        yield connection


@pytest.fixture(scope="module")
def qemu_driver(libvirtd: Libvirtd) -> Iterator["libvirt.virConnect"]:
    with contextlib.closing(libvirt.open(libvirtd.uri)) as connection:
        yield connection
        assert connection.listAllDomains() == []


@pytest.mark.parametrize("name", DOMAINS)
def test_the_test_driver_gives_back_all_that_was_said(name: str, test_driver: "libvirt.virConnect") -> None:
    said = DOMAINS[name].to_element()
    said.set("type", "test")
    assert list(_lost(said, _given_back(test_driver, said))) == FORGOTTEN.get(name, [])


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in DOMAINS if name not in REFUSED])
def test_the_qemu_driver_gives_back_all_that_was_said(name: str, qemu_driver: "libvirt.virConnect") -> None:
    # Emulated: not every machine of ours has KVM, and what is said but the type is the same.
    said = replace(DOMAINS[name], virt_type=VirtType.QEMU).to_element()
    assert list(_lost(said, _given_back(qemu_driver, said))) == []


@pytest.mark.real
@pytest.mark.parametrize("name", STARTED)
def test_qemu_starts_what_needs_nothing_else_of_the_host(name: str, qemu_driver: "libvirt.virConnect") -> None:
    xml = replace(DOMAINS[name], virt_type=VirtType.QEMU).to_xml()
    domain = qemu_driver.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
    try:
        assert domain.isActive()
    finally:
        domain.destroy()


@pytest.mark.real
@pytest.mark.parametrize("name", ["disk_tuned", "disk_limits", "disk_on_sata", "disk_on_ide", "disk_on_usb"])
def test_qemu_starts_with_disks_so_driven(name: str, qemu_driver: "libvirt.virConnect", tmp_state_dir: Path) -> None:
    config = replace(DOMAINS[name], devices=tuple(_on_a_file(it, tmp_state_dir) for it in DOMAINS[name].devices))
    domain = qemu_driver.createXML(config.to_xml(), libvirt.VIR_DOMAIN_START_PAUSED)
    try:
        assert domain.isActive()
    finally:
        domain.destroy()


def test_every_case_that_is_excepted_is_there_and_excepted_once() -> None:
    excepted = [name for names in (*NEEDS.values(), REFUSED) for name in names]
    assert sorted(set(excepted) & set(DOMAINS)) == sorted(excepted)


@pytest.mark.real
@pytest.mark.parametrize("name", REFUSED)
def test_what_this_machines_qemu_cannot_do_is_refused_for_the_reason_that_we_know(
    name: str, qemu_driver: "libvirt.virConnect"
) -> None:
    refusal = REFUSED[name]
    if refusal.unless is not None and refusal.unless.exists():
        pytest.skip(f"{refusal.unless} is there, so the case may be taken")
    with pytest.raises(libvirt.libvirtError, match=refusal.reason):
        _given_back(qemu_driver, replace(DOMAINS[name], virt_type=VirtType.QEMU).to_element())


def test_what_libvirt_ignores_is_found_to_be_lost(test_driver: "libvirt.virConnect") -> None:
    said = DOMAINS["no_nics"].to_element()
    said.set("type", "test")
    etree.SubElement(said, "bogus")
    said.find("os/type").set("bogus", "1")  # type: ignore[union-attr]
    cpu, clock = said.find("cpu"), said.find("clock")
    assert cpu is not None
    assert clock is not None
    clock.addnext(cpu)
    assert set(_lost(said, _given_back(test_driver, said))) == {
        "domain/bogus is gone",
        "domain/os/type: 'bogus' was '1', is None",
        "domain/cpu is in another place",
    }


def _on_a_file(device: DeviceConfig, directory: Path) -> DeviceConfig:
    """The device; a disk that is not empty is on a new file in the directory."""
    if not isinstance(device, DiskConfig) or device.source == FileSourceConfig(path=None):
        return device
    path = directory / device.device
    run_or_fail(["qemu-img", "create", "-q", "-f", device.driver.format, path, "16M"], limit_s=60.0)
    return replace(device, source=FileSourceConfig(path=str(path)))


def _given_back(connection: "libvirt.virConnect", said: etree._Element) -> etree._Element:
    domain = connection.defineXML(etree.tostring(said, encoding="unicode"))
    try:
        return etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    finally:
        # A domain with UEFI is not undefined before it is said what becomes of its variables; the test driver knows none.
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM if connection.getType() == "QEMU" else 0)


def _lost(said: etree._Element, found: etree._Element, above: str = "") -> Iterator[str]:
    """What of an element libvirt's has not, or elsewhere. What libvirt has added is no loss; it sorts devices by kind."""
    here = f"{above}{_tag(said)}"
    for name, value in said.items():
        if found.get(name) != value:
            yield f"{here}: {name!r} was {value!r}, is {found.get(name)!r}"
    if (said.text or "").strip() != (found.text or "").strip():
        yield f"{here}: was {said.text!r}, is {found.text!r}"
    left, last = dict(enumerate(found)), -1
    for child in said:
        losses = {at: list(_lost(child, other, f"{here}/")) for at, other in left.items() if other.tag == child.tag}
        if not losses:
            yield f"{here}/{_tag(child)} is gone"
            continue
        nearest = min(losses, key=lambda at: len(losses[at]))
        yield from losses[nearest]
        del left[nearest]
        if nearest < last and said.tag != "devices":
            yield f"{here}/{_tag(child)} is in another place"
        last = max(last, nearest)


def _tag(found: etree._Element) -> str:
    return etree.QName(found).localname
