"""Which kind of disk tells a guest's cloud-init who it is: of what the caller, the image and the operator say. Pure.

Nova: a config drive is made when the caller asks for one, when the image says img_config_drive=mandatory, or when the
operator says force_config_drive. https://docs.openstack.org/nova/latest/admin/config-drive.html
"""

from taskvisor.model.errors import Refused
from taskvisor.model.states import SeedKind
from virt.options.disk import ConfigDriveNeed, DiskOptions


def seed_kind_for(asked: SeedKind | None, image: DiskOptions, operators: SeedKind) -> SeedKind:
    """What the caller asked for; else a config drive where the image needs one; else what the operator chose for all.

    Refused when the caller asks for what the image can't use.
    """
    mandatory = image.config_drive is ConfigDriveNeed.MANDATORY
    if asked is SeedKind.NOCLOUD and mandatory:
        raise Refused(
            "config_drive: 'nocloud', but the image says img_config_drive='mandatory'; ask for configdrive, or for none"
        )
    if asked is not None:
        return asked
    if mandatory and operators is SeedKind.NOCLOUD:
        return SeedKind.CONFIG_DRIVE
    return operators
