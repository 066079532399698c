"""Which kind of disk a guest's cloud-init reads."""

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.states import SeedKind
from virt.options.disk import ConfigDriveNeed, DiskOptions
from virt.seeds.kind import seed_kind_for

INDIFFERENT = (DiskOptions(), DiskOptions(config_drive=ConfigDriveNeed.OPTIONAL))
NEEDS_ONE = DiskOptions(config_drive=ConfigDriveNeed.MANDATORY)


@pytest.mark.parametrize("image", INDIFFERENT)
@pytest.mark.parametrize("operators", list(SeedKind))
def test_where_nobody_asks_the_operator_decides(image: DiskOptions, operators: SeedKind) -> None:
    assert seed_kind_for(None, image, operators) is operators


@pytest.mark.parametrize("image", INDIFFERENT)
@pytest.mark.parametrize("asked", list(SeedKind))
@pytest.mark.parametrize("operators", list(SeedKind))
def test_what_the_caller_asks_for_counts(asked: SeedKind, image: DiskOptions, operators: SeedKind) -> None:
    assert seed_kind_for(asked, image, operators) is asked


@pytest.mark.parametrize(
    ("asked", "operators", "kind"),
    [
        (None, SeedKind.NOCLOUD, SeedKind.CONFIG_DRIVE),
        (None, SeedKind.CONFIG_DRIVE_VFAT, SeedKind.CONFIG_DRIVE_VFAT),
        (SeedKind.CONFIG_DRIVE_VFAT, SeedKind.NOCLOUD, SeedKind.CONFIG_DRIVE_VFAT),
    ],
)
def test_an_image_that_needs_a_config_drive_has_one(
    asked: SeedKind | None, operators: SeedKind, kind: SeedKind
) -> None:
    assert seed_kind_for(asked, NEEDS_ONE, operators) is kind


def test_what_the_image_cant_use_is_refused_with_both_named() -> None:
    with pytest.raises(Refused, match=r"config_drive: 'nocloud', but the image says img_config_drive='mandatory'"):
        seed_kind_for(SeedKind.NOCLOUD, NEEDS_ONE, SeedKind.CONFIG_DRIVE)
