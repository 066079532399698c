"""The decisions about a guest's hardware. What they look like as XML is in `domain/golden`."""

from dataclasses import replace
from typing import TypeVar

import pytest

from taskvisor.model.cpu_words import CpuMode
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.plan import DiskBus
from taskvisor.model.records import Instance
from taskvisor.model.states import VirtType
from tests.virt.sample_guests import INSTANCE, PC_HOST, Q35_KVM_HOST, vif_of
from virt.domain.character import LogAppend, LogConfig, SerialConfig
from virt.domain.character_backend import PtyBackend
from virt.domain.config import DeviceConfig
from virt.domain.connection import TapConnection
from virt.domain.disk import DiskCache, DiskConfig, DiskIo, DiskKind
from virt.domain.display import VncConfig
from virt.domain.domain import DomainConfig
from virt.domain.interface import InterfaceConfig
from virt.layout import disk_layout_for
from virt.policy import domain_config_for, domain_name_for

D = TypeVar("D", bound=DeviceConfig)
VIFS = [vif_of(port) for port in INSTANCE.ports]


def config_for(instance: Instance = INSTANCE, host: HypervisorFacts = PC_HOST) -> DomainConfig:
    layout = disk_layout_for(instance, instances_dir="/srv", machine=host.machine)
    return domain_config_for(instance, layout, VIFS, host)


def devices(config: DomainConfig, kind: type[D]) -> list[D]:
    return [device for device in config.devices if isinstance(device, kind)]


def test_the_same_record_gives_the_same_xml() -> None:
    assert config_for().to_xml() == config_for().to_xml()


def test_size_and_board_come_from_flavor_and_host() -> None:
    config = config_for()
    assert (config.memory_mib, config.vcpus.count, config.cpu.cores) == (512, 2, 2)
    assert (config.os.arch, config.os.machine, config.emulator) == (PC_HOST.arch, PC_HOST.machine, PC_HOST.emulator)


def test_a_volume_of_its_own_is_read_past_the_hosts_memory_as_its_io_needs_it() -> None:
    backend = DiskBackend(kind=BackendKind.LVM, pool="guests")
    layout = disk_layout_for(INSTANCE, instances_dir="/srv", machine=PC_HOST.machine, backend=backend)
    root = devices(domain_config_for(INSTANCE, layout, VIFS, PC_HOST), DiskConfig)[0]
    assert (root.driver.cache, root.driver.io, root.driver.format) == (DiskCache.NONE, DiskIo.NATIVE, "raw")


def test_on_kvm_the_guest_sees_the_hosts_cpu() -> None:
    config = config_for(host=Q35_KVM_HOST)
    assert (config.virt_type, config.cpu.mode, config.cpu.model) == (VirtType.KVM, CpuMode.HOST_MODEL, None)


def test_an_emulated_guest_sees_a_model_that_todays_distributions_run_on() -> None:
    config = config_for()
    assert (config.virt_type, config.cpu.mode, config.cpu.model) == (VirtType.QEMU, CpuMode.CUSTOM, "Nehalem")


def test_an_instance_made_for_kvm_is_refused_where_there_is_none() -> None:
    with pytest.raises(Refused, match="made for KVM"):
        config_for(replace(INSTANCE, virt_type=VirtType.KVM))


def test_an_instance_made_without_kvm_gets_it_where_there_is_one() -> None:
    assert config_for(replace(INSTANCE, virt_type=VirtType.QEMU), Q35_KVM_HOST).virt_type is VirtType.KVM


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\nb", "web", ""])
def test_the_domains_name_is_safe_whatever_the_instances(name: str) -> None:
    assert domain_name_for(replace(INSTANCE, name=name)) == f"instance-{INSTANCE.id[:13]}"


@pytest.mark.parametrize(("name", "title"), [("web", "web"), ("a\nb\x00", "a b"), ("\n", None)])
def test_the_instances_name_is_the_title_as_far_as_it_can_be_shown(name: str, title: str | None) -> None:
    assert config_for(replace(INSTANCE, name=name)).title == title


def test_only_the_root_disk_is_booted_from_and_the_seed_is_read_only() -> None:
    root, seed = devices(config_for(), DiskConfig)
    assert (root.kind, root.bus, root.device, root.boot_order, root.readonly) == (
        DiskKind.DISK,
        DiskBus.VIRTIO,
        "vda",
        1,
        False,
    )
    assert (seed.kind, seed.device, seed.boot_order, seed.readonly) == (DiskKind.CDROM, "hda", None, True)


def test_the_cache_mode_is_the_one_asked_for() -> None:
    layout = disk_layout_for(INSTANCE, instances_dir="/srv", machine=PC_HOST.machine)
    config = domain_config_for(INSTANCE, layout, (), PC_HOST, disk_cache=DiskCache.NONE)
    assert [disk.driver.cache for disk in devices(config, DiskConfig)] == [DiskCache.NONE, None]


def test_each_nic_is_on_its_tap() -> None:
    nics = devices(config_for(), InterfaceConfig)
    wanted = [(TapConnection(tap=vif.tap), vif.mac, vif.mtu) for vif in VIFS]
    assert [(nic.connection, nic.mac, nic.mtu) for nic in nics] == wanted


def test_the_console_log_outlives_a_reboot() -> None:
    (serial,) = devices(config_for(), SerialConfig)
    log = LogConfig(path=f"/srv/{INSTANCE.id}/console.log", append=LogAppend.ON)
    assert serial == SerialConfig(backend=PtyBackend(), log=log)


def test_vnc_listens_on_the_loopback_only() -> None:
    assert devices(config_for(), VncConfig) == [VncConfig(listen_address="127.0.0.1")]


def test_secrets_stay_out_of_the_domain() -> None:
    xml = config_for(replace(INSTANCE, user_data="#cloud-config\npassword: hunter2\n")).to_xml()
    assert "hunter2" not in xml
    assert "ssh-ed25519" not in xml


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"hw_architecture": "aarch64"}, "the image is for aarch64, and this host is x86_64"),
        ({"img_hv_type": "kvm"}, "the image asks for img_hv_type=kvm, and this host has no KVM"),
    ],
)
def test_a_host_that_is_not_what_the_image_asks_for_says_so(properties: dict[str, str], said: str) -> None:
    host = replace(PC_HOST, arch="x86_64", virt_type=VirtType.QEMU)
    with pytest.raises(DoesNotFit, match=said):
        config_for(replace(INSTANCE, virt_type=None, image_properties=properties), host)


@pytest.mark.parametrize(
    ("properties", "arch", "virt_type"),
    [
        ({"hw_architecture": "amd64", "img_hv_type": "kvm"}, "x86_64", VirtType.KVM),
        ({"architecture": "x86_64", "img_hv_type": "qemu"}, "x86_64", VirtType.KVM),
        ({"img_hv_type": "qemu", "hw_vm_mode": "hvm"}, "x86_64", VirtType.QEMU),
        ({}, "riscv64", VirtType.QEMU),
    ],
)
def test_a_host_that_is_what_the_image_asks_for_takes_it(
    properties: dict[str, str], arch: str, virt_type: VirtType
) -> None:
    host = replace(PC_HOST, arch=arch, virt_type=virt_type)
    assert config_for(replace(INSTANCE, virt_type=None, image_properties=properties), host).virt_type is virt_type
