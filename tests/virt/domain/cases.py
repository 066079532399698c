"""The Configs whose XML is kept in `golden/`: what the policy makes, and one with everything set that it never sets."""

from collections.abc import Mapping
from dataclasses import replace

from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.virt.sample_guests import INSTANCE, PC_HOST, Q35_KVM_HOST, vif_of
from virt.domain.character import LogAppend, SerialConfig
from virt.domain.config import Config
from virt.domain.disk import CopyTargetConfig, DiskCache
from virt.layout import disk_layout_for
from virt.policy import domain_config_for

INSTANCES_DIR = "/var/lib/taskvisor/instances"
HOSTILE_TEXT = "<b>\"&'</b> \\u0041 \x00\x1b\ud800\ufffe\r\n\t é 🐙 \x7f"


def cases() -> Mapping[str, Config]:
    """Every Config by the name of its golden file."""
    pc, q35 = PC_HOST.machine, Q35_KVM_HOST.machine
    vifs = [vif_of(port) for port in INSTANCE.ports]
    bare = replace(INSTANCE, ports=(), metadata={}, image=ImageSource(url="file:///srv/bare.raw"))
    hostile = replace(bare, name=HOSTILE_TEXT, image_name=HOSTILE_TEXT, metadata={HOSTILE_TEXT: HOSTILE_TEXT, " ": " "})
    emulated = domain_config_for(
        INSTANCE, disk_layout_for(INSTANCE, instances_dir=INSTANCES_DIR, machine=pc), vifs, PC_HOST
    )
    return {
        "emulated_on_pc": emulated,
        "kvm_on_q35": domain_config_for(
            INSTANCE,
            disk_layout_for(INSTANCE, instances_dir=INSTANCES_DIR, machine=q35),
            vifs,
            Q35_KVM_HOST,
            disk_cache=DiskCache.NONE,
        ),
        "no_nics": domain_config_for(bare, disk_layout_for(bare, instances_dir=INSTANCES_DIR, machine=pc), (), PC_HOST),
        "hostile_text": domain_config_for(
            hostile, disk_layout_for(hostile, instances_dir=INSTANCES_DIR, machine=pc), (), PC_HOST
        ),
        "second_serial": replace(
            emulated,
            devices=(*emulated.devices, SerialConfig(log_path="/tmp/log", log_append=LogAppend.OFF, port=1)),
        ),
        "copy_target": CopyTargetConfig(path="/var/lib/taskvisor/snapshots/1.part", format=ImageFormat.QCOW2),
    }
