"""What can be asked of a guest's board and of what it boots: firmware, machine, kernel, TPM, and what the system is."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.errors import Refused
from virt.domain.board_devices import TpmModel, TpmVersion
from virt.domain.boot import Firmware
from virt.options.kinds import BOOLEAN, HOST_PATH, matching, one_of
from virt.options.option import AGREE, IMAGE_FIRST, ONE_PLACE, Option


class SecureBoot(StrEnum):
    REQUIRED = "required"
    OPTIONAL = "optional"  # where the host can
    DISABLED = "disabled"


class OsType(StrEnum):
    LINUX = "linux"
    WINDOWS = "windows"


@dataclass(frozen=True, kw_only=True)
class BootOptions:
    """What is None is the host's choice."""

    machine: str | None = None
    firmware: Firmware | None = None
    secure_boot: SecureBoot | None = None
    boot_menu: bool = False
    kernel: str | None = None
    ramdisk: str | None = None
    command_line: str | None = None
    os_type: OsType | None = None
    hpet: bool = False
    tpm_model: TpmModel | None = None
    tpm_version: TpmVersion | None = None


BOOT_OPTIONS = (
    Option(
        field="machine",
        flavor_key="hw:machine_type",
        image_key="hw_machine_type",
        kind=matching(r"[a-z0-9][a-z0-9._-]{0,63}", "a machine type, like q35 or pc-i440fx-7.2"),
        rule=IMAGE_FIRST,
        default="the host's",
        effect="The board. Kept with the instance when it is first built, so that an upgraded QEMU does not change the guest.",
    ),
    Option(
        field="firmware",
        image_key="hw_firmware_type",
        kind=one_of(Firmware, uefi=Firmware.EFI),
        rule=ONE_PLACE,
        default="bios",
        effect="What starts the guest.",
    ),
    Option(
        field="secure_boot",
        flavor_key="os:secure_boot",
        image_key="os_secure_boot",
        kind=one_of(SecureBoot),
        rule=AGREE,
        default="disabled",
        effect="UEFI starts signed systems only; needs UEFI and q35.",
    ),
    Option(
        field="boot_menu",
        flavor_key="hw:boot_menu",
        image_key="hw_boot_menu",
        kind=BOOLEAN,
        rule=IMAGE_FIRST,
        default="no",
        effect="The firmware offers its boot menu for three seconds.",
    ),
    Option(
        field="kernel",
        image_key="kernel_id",
        kind=HOST_PATH,
        rule=ONE_PLACE,
        default="none",
        effect="A kernel on the host, below a directory that the host allows; here a path, in Nova an image's id.",
    ),
    Option(
        field="ramdisk",
        image_key="ramdisk_id",
        kind=HOST_PATH,
        rule=ONE_PLACE,
        default="none",
        effect="The initial file system that goes with the kernel.",
    ),
    Option(
        field="command_line",
        image_key="os_command_line",
        kind=matching(r"[^\x00-\x1f\x7f]{1,2047}", "one line of at most 2047 characters"),
        rule=ONE_PLACE,
        default="root=/dev/vda console=ttyS0",
        effect="The kernel's command line.",
    ),
    Option(
        field="os_type",
        image_key="os_type",
        kind=one_of(OsType),
        rule=ONE_PLACE,
        default="none",
        effect="`windows`: Hyper-V's enlightenments and timer, a clock in local time, and FAT on its ephemeral disk.",
    ),
    Option(
        field="hpet",
        image_key="hw_time_hpet",
        kind=BOOLEAN,
        rule=ONE_PLACE,
        default="no",
        effect="The guest has a high precision event timer.",
    ),
    Option(
        field="tpm_model",
        flavor_key="hw:tpm_model",
        image_key="hw_tpm_model",
        kind=one_of(TpmModel),
        rule=AGREE,
        default="tpm-tis",
        effect="How the guest sees its TPM.",
    ),
    Option(
        field="tpm_version",
        flavor_key="hw:tpm_version",
        image_key="hw_tpm_version",
        kind=one_of(TpmVersion),
        rule=AGREE,
        default="no TPM",
        effect="The guest has a TPM of that version.",
    ),
)


def require_sense(options: BootOptions) -> None:
    """Refused when options of this theme contradict each other."""
    if options.secure_boot is SecureBoot.REQUIRED and options.firmware is not Firmware.EFI:
        raise Refused("os:secure_boot=required: needs hw_firmware_type=uefi on the image; set it, or leave both out")
    if options.tpm_model is not None and options.tpm_version is None:
        raise Refused(f"hw:tpm_model={options.tpm_model}: needs hw:tpm_version; set it, or leave both out")
    if options.tpm_model is TpmModel.CRB and options.tpm_version is not TpmVersion.V2_0:
        raise Refused(f"hw:tpm_model=tpm-crb: is of version 2.0 only, not {options.tpm_version}; change one of them")
    for key, value in (("ramdisk_id", options.ramdisk), ("os_command_line", options.command_line)):
        if value is not None and options.kernel is None:
            raise Refused(f"{key}: needs kernel_id; set it, or leave both out")
