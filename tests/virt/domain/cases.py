"""The Configs whose XML is kept in `golden/`: what the policy makes, and every option that it could make use of."""

from collections.abc import Mapping
from dataclasses import replace

from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.virt.domain.cpu_cases import cpu_cases
from tests.virt.domain.device_cases import device_cases
from tests.virt.domain.display_cases import display_cases
from tests.virt.domain.machine_cases import machine_cases
from tests.virt.domain.owner_cases import owner_cases
from tests.virt.domain.record_cases import record_cases
from tests.virt.domain.storage_cases import storage_cases
from tests.virt.domain.walkthrough import WALKTHROUGH
from tests.virt.sample_guests import INSTANCE, PC_HOST, Q35_KVM_HOST, vif_of
from virt.domain.character import LogAppend, LogConfig, SerialConfig
from virt.domain.character_backend import PtyBackend
from virt.domain.config import Config
from virt.domain.disk import CopyTargetConfig, DiskCache
from virt.layout import disk_layout_for
from virt.policy import domain_config_for

INSTANCES_DIR = "/var/lib/taskvisor/instances"
HOSTILE_TEXT = "<b>\"&'</b> \\u0041 \x00\x1b\ud800\ufffe\r\n\t é 🐙 \x7f"


def cases() -> Mapping[str, Config]:
    """Every Config by the name of its golden file."""
    kinds = (
        policy_cases,
        owner_cases,
        record_cases,
        cpu_cases,
        machine_cases,
        storage_cases,
        device_cases,
        display_cases,
    )
    return {"walkthrough": WALKTHROUGH} | {
        name: case for cases_of_a_kind in kinds for name, case in cases_of_a_kind().items()
    }


def policy_cases() -> Mapping[str, Config]:
    """What is made of an instance and a host, as they are today."""
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
            devices=(
                *emulated.devices,
                SerialConfig(backend=PtyBackend(), log=LogConfig(path="/tmp/log", append=LogAppend.OFF), port=1),
            ),
        ),
        "copy_target": CopyTargetConfig(path="/var/lib/taskvisor/snapshots/1.part", format=ImageFormat.QCOW2),
        "copy_target_raw": CopyTargetConfig(path="/var/lib/taskvisor/snapshots/2.part", format=ImageFormat.RAW),
    }
