"""What can be asked of a guest's disks: on which bus they are, and how fast they may be."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.errors import Refused
from taskvisor.model.plan import DiskBus
from virt.domain.controller import ScsiModel
from virt.options.kinds import one_of, whole
from virt.options.option import ONE_PLACE, Option

MOST_RATE = 10**12


class CdromBus(StrEnum):
    """Buses that a CD-ROM can be on; virtio has none."""

    SCSI = "scsi"
    SATA = "sata"
    IDE = "ide"
    USB = "usb"


class ConfigDriveNeed(StrEnum):
    """Whether guests of an image need an OpenStack config drive."""

    MANDATORY = "mandatory"
    OPTIONAL = "optional"


@dataclass(frozen=True, kw_only=True)
class DiskOptions:
    """Limits hold for each disk by itself: in bytes and in operations a second."""

    bus: DiskBus | None = None
    cdrom_bus: CdromBus | None = None
    scsi_model: ScsiModel | None = None
    config_drive: ConfigDriveNeed | None = None
    total_bytes_s: int | None = None
    read_bytes_s: int | None = None
    write_bytes_s: int | None = None
    total_iops: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None
    total_bytes_s_max: int | None = None
    read_bytes_s_max: int | None = None
    write_bytes_s_max: int | None = None
    total_iops_max: int | None = None
    read_iops_max: int | None = None
    write_iops_max: int | None = None
    iops_size_bytes: int | None = None


def _limits() -> tuple[Option, ...]:
    units = {"bytes": ("bytes_s", "bytes a second"), "iops": ("iops", "operations a second")}
    lasting = tuple(
        Option(
            field=f"{which}_{units[unit][0]}",
            flavor_key=f"quota:disk_{which}_{unit}_sec",
            kind=whole(0, MOST_RATE),
            rule=ONE_PLACE,
            default="no limit",
            effect=f"The most {units[unit][1]} of each disk, {which}.",
        )
        for unit in units
        for which in ("total", "read", "write")
    )
    bursts = tuple(
        Option(
            field=f"{which}_{units[unit][0]}_max",
            flavor_key=f"quota:disk_{which}_{unit}_sec_max",
            kind=whole(0, MOST_RATE),
            rule=ONE_PLACE,
            default="no burst",
            effect=f"The most {units[unit][1]} of each disk, {which}, for a second.",
        )
        for unit in units
        for which in ("total", "read", "write")
    )
    return lasting + bursts


DISK_OPTIONS = (
    Option(
        field="bus",
        image_key="hw_disk_bus",
        kind=one_of(DiskBus),
        rule=ONE_PLACE,
        default="virtio",
        effect="The bus of the guest's disks.",
    ),
    Option(
        field="cdrom_bus",
        image_key="hw_cdrom_bus",
        kind=one_of(CdromBus),
        rule=ONE_PLACE,
        default="sata on q35, ide on pc",
        effect="The bus of the guest's CD-ROMs, the config drive among them. A kernel without AHCI (Debian's cloud kernel) needs "
        "scsi on q35.",
    ),
    Option(
        field="scsi_model",
        image_key="hw_scsi_model",
        kind=one_of(ScsiModel),
        rule=ONE_PLACE,
        default="virtio-scsi",
        effect="The SCSI controller of a guest with disks on the bus scsi.",
    ),
    Option(
        field="config_drive",
        image_key="img_config_drive",
        kind=one_of(ConfigDriveNeed),
        rule=ONE_PLACE,
        default="optional",
        effect="`mandatory`: cloud-init reads an OpenStack config drive, whatever the host's operator chose for others.",
    ),
    *_limits(),
    Option(
        field="iops_size_bytes",
        flavor_key="quota:disk_size_iops_sec",
        kind=whole(0, MOST_RATE),
        rule=ONE_PLACE,
        default="each counts as one",
        effect="An operation of more bytes than this counts as several.",
    ),
)


def require_sense(options: DiskOptions) -> None:
    """Refused when options of this theme contradict each other: QEMU takes a total, or reads and writes apart."""
    for unit, name in (("bytes_s", "bytes"), ("iops", "iops")):
        for tail in ("", "_max"):
            key = f"quota:disk_{{}}_{name}_sec{tail}"
            apart = [which for which in ("read", "write") if getattr(options, f"{which}_{unit}{tail}")]
            if getattr(options, f"total_{unit}{tail}") and apart:
                raise Refused(f"{key.format('total')}: not beside {key.format(apart[0])}; set one of them")
