"""The owner in Nova's dialects, beside ours."""

from collections.abc import Mapping
from dataclasses import replace

from taskvisor.model.ids import HostName, NetworkId, OperationId, PortId, SecurityGroupId, instance_id_for
from taskvisor.model.network import AddressPair, Bandwidth, Port, Qos
from taskvisor.model.records import Flavor, ImageSource
from taskvisor.model.states import SeedKind
from tests.virt.domain.bases import PC
from virt.domain.domain import DomainConfig
from virt.domain.nova_owner import (
    NovaAddressConfig,
    NovaDialect,
    NovaFlavorConfig,
    NovaImageConfig,
    NovaOwnerConfig,
    NovaPortConfig,
    NovaRootConfig,
)
from virt.domain.owner import OwnerConfig

FLAVOR = NovaFlavorConfig(name="m1.small", memory_mib=2048, disk_gib=20, swap_mib=0, ephemeral_gib=0, vcpus=1)
OWNER = NovaOwnerConfig(
    dialect=NovaDialect.V1_0,
    package_version="13.1.0-1.el7",
    name="myInstanceWithVolume",
    created_at=1471576678.0,
    flavor=FLAVOR,
    user="demo",
    user_uuid="6383b14b190d422ab3079e4e63c62e16",
    project="demo",
    project_uuid="478a18506673406db8abc360cdc2f202",
    root=NovaRootConfig(type="image", uuid="9bf97139-7760-4ace-b3d1-5bcd0ff30f55"),
)
"""The one of the second source document (lines 4 to 22)."""


def owner_cases() -> Mapping[str, DomainConfig]:
    """Each by the name of its golden file."""
    image = NovaImageConfig(
        uuid="7899d69a-dcb4-4634-b8f1-c25df4813035",
        container_format="bare",
        disk_format="qcow2",
        min_disk_gib=40,
        min_memory_mib=64,
        properties={"hw_machine_type": "q35", "hw_firmware_type": "uefi"},
    )
    fixed = NovaAddressConfig(type="fixed", address="10.0.0.5", ip_version=4)
    floating = NovaAddressConfig(type="floating", address="2001:db8::5", ip_version=6)
    newest = NovaOwnerConfig(
        dialect=NovaDialect.V1_1,
        package_version="33.1.0",
        name='<snp> & "test"\x00',
        created_at=1784450621.9,
        flavor=NovaFlavorConfig(
            name="m1.medium",
            id="3",
            memory_mib=4096,
            disk_gib=40,
            swap_mib=512,
            ephemeral_gib=10,
            vcpus=2,
            extra_specs={"hw_rng:allowed": "True", "hw:cpu_policy": "shared"},
        ),
        user="ci",
        user_uuid="702a1c7f8fe0",
        project="builds",
        project_uuid="888888888888",
        image=image,
        ports=(
            NovaPortConfig(uuid="16cd9b2c-ad3c-4d0c-8b1b-7e8a1b2c3d4e", addresses=(fixed, floating)),
            NovaPortConfig(uuid="54000001-ab3c-4d0c-8b1b-7e8a1b2c3d4e", addresses=()),
        ),
    )
    other_image = replace(
        image,
        uuid="1",
        container_format="ovf",
        disk_format="raw",
        min_disk_gib=0,
        min_memory_mib=0,
        properties={},
    )
    from_volume = replace(
        newest,
        image=other_image,
        ports=(),
        root=NovaRootConfig(type="volume", uuid="13db53ea-475b-471d-bbb1-a0daffbf25ef"),
    )
    return {
        "nova_1_0": replace(PC, owners=(_ours(SeedKind.CONFIG_DRIVE), OWNER)),
        "nova_1_1": replace(PC, owners=(_ours(SeedKind.CONFIG_DRIVE_VFAT), newest)),
        "nova_1_1_from_volume": replace(PC, owners=(from_volume,)),
    }


def _ours(config_drive: SeedKind) -> OwnerConfig:
    instance_id = instance_id_for(OperationId("other"))
    return OwnerConfig(
        instance_id=instance_id,
        name="other",
        host=HostName("node2"),
        created_at=1.5,
        flavor=Flavor(name="large", vcpus=8, memory_mib=8192, disk_gib=0),
        image=ImageSource(url="file:///srv/other.raw"),
        image_name="other",
        ports=(
            Port(
                id=PortId("p"),
                instance_id=instance_id,
                network_id=NetworkId("n"),
                network="blue",
                index=3,
                mac="52:54:00:00:00:01",
                address="192.0.2.1",
                address6="2001:db8::1",
                security_groups=(SecurityGroupId("g"),),
                allowed_pairs=(
                    AddressPair(address="198.51.100.7", mac="52:54:00:00:00:02"),
                    AddressPair(address="198.51.100.8"),
                ),
                anti_spoofing=False,
                qos=Qos(
                    inbound=Bandwidth(average_kib_s=1000, peak_kib_s=2000, burst_kib=4000),
                    outbound=Bandwidth(average_kib_s=500),
                ),
                queues=4,
            ),
        ),
        metadata={},
        config_drive=config_drive,
        project="lab",
        volumes={"rbd://volumes/v": '{"source":"rbd://volumes/v","serial":"v"}'},
    )
