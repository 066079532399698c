"""What Debian's own cloud-init makes of what we write, without booting it: its readers, its schema, its network renderers."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskvisor.model.plan import ConfigDrive, Seed
from tests.fixtures.debian import CloudInit
from tests.virt.sample_guests import INSTANCE, vif_of
from virt.seeds.config_drive import config_drive_for
from virt.seeds.fat import fat_for
from virt.seeds.iso import iso_for
from virt.seeds.nocloud import seed_for
from virt.seeds.volume import volume_for

pytestmark = [pytest.mark.real, pytest.mark.slow]

NICS = (vif_of(INSTANCE.ports[0]), vif_of(INSTANCE.ports[1], dhcp=False))
STATIC_FIRST = (vif_of(INSTANCE.ports[0], dhcp=False), vif_of(INSTANCE.ports[1]))
VENDOR_DATA = "#cloud-config\n{}\n"
DEFAULT_ROUTES = ("to: 0.0.0.0/0", "Destination=0.0.0.0/0", "default gw 10.0.0.1", "GATEWAY=10.0.0.1")
"""In each renderer's words."""
READ_CONFIG_DRIVE = """
import json, sys
from cloudinit import sources
from cloudinit.sources.helpers import openstack
reader = openstack.ConfigDriveReader(sys.argv[1])
found = reader.read_v2()
found["read"] = reader._find_working_version()
found["keys"] = sources.normalize_pubkey_data(found["metadata"]["public_keys"])
found["to_vendor"] = sources.convert_vendordata(found["vendordata"])
found["to_vendor2"] = sources.convert_vendordata(found["vendordata2"])
print(json.dumps(found, default=lambda raw: raw.decode("latin-1")))
"""


def laid_out(seed: Seed | ConfigDrive, directory: Path) -> Path:
    """The seed's files below a directory, as a mount of its volume would show them."""
    for name, content in volume_for(seed).files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def rendered(cloud_init: CloudInit, source: Path, kind: str, how: str, distro: str, out: Path) -> dict[str, str]:
    """What cloud-init would write for the guest's network, by file; comments left out."""
    macs = [word for number, vif in enumerate(NICS) for word in ("-m", f"ens{3 + number},{vif.mac}")]
    argv: list[str | Path] = ["-p", source, "-k", kind, *macs, "-D", distro, "-d", out, "-O", how]
    cloud_init.run("-m", "cloudinit.cmd.devel.net_convert", *argv)
    return {
        str(path.relative_to(out)): "\n".join(
            line for line in path.read_text().splitlines() if line and not line.startswith("#")
        )
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_a_config_drive_is_read_whole(cloud_init: CloudInit, tmp_path: Path) -> None:
    drive = config_drive_for(replace(INSTANCE, user_data="#!/bin/sh\n"), NICS, vendor_data=VENDOR_DATA)
    found: dict[str, Any] = json.loads(cloud_init.run("-c", READ_CONFIG_DRIVE, laid_out(drive, tmp_path)))
    assert found["read"] == "2018-08-27"
    assert found["userdata"] == "#!/bin/sh\n"
    metadata = found["metadata"]
    assert (metadata["instance-id"], metadata["local-hostname"]) == (INSTANCE.id, "web")
    assert found["keys"] == list(INSTANCE.ssh_keys)
    assert metadata["meta"] == INSTANCE.metadata
    assert len(metadata["random_seed"]) == 512
    assert (found["to_vendor"], found["to_vendor2"]) == (VENDOR_DATA, None)  # once, not twice


def test_our_own_user_data_are_by_its_schema(cloud_init: CloudInit, tmp_path: Path) -> None:
    path = tmp_path / "user-data"
    path.write_text(seed_for(INSTANCE, NICS).user_data)
    assert "Valid" in cloud_init.run("-m", "cloudinit.cmd.main", "schema", "-c", path)


@pytest.mark.parametrize("how", ["netplan", "networkd", "eni", "sysconfig"])
@pytest.mark.parametrize("vifs", [NICS, STATIC_FIRST], ids=["dhcp first", "static first"])
@pytest.mark.parametrize("kind", ["yaml", "network_data.json"])
def test_every_renderer_makes_a_network_of_it(
    cloud_init: CloudInit, tmp_path: Path, kind: str, vifs: tuple[Any, ...], how: str
) -> None:
    text = seed_for(INSTANCE, vifs).network_config if kind == "yaml" else config_drive_for(INSTANCE, vifs).network_data
    source = tmp_path / "source"
    source.write_text(text)
    distro = "rhel" if how == "sysconfig" else "debian"
    files = rendered(cloud_init, source, kind, how, distro, tmp_path / "out")
    names = ["nic0", "nic1"] if kind == "yaml" else ["ens3", "ens4"]
    everything = "\n".join([*files, *files.values()])
    for name, vif in zip(names, vifs, strict=True):
        assert name in everything
        assert vif.mac in everything.lower()
        assert (vif.address in everything) is not vif.dhcp
    assert "1450" in everything
    assert any(route in everything for route in DEFAULT_ROUTES) is not vifs[0].dhcp


def test_a_nocloud_seed_is_found_by_its_names(cloud_init: CloudInit, tmp_path: Path) -> None:
    seed = seed_for(INSTANCE, NICS, vendor_data=VENDOR_DATA)
    laid_out(seed, tmp_path)
    program = (
        "import json, sys; from cloudinit import util; print(json.dumps(util.pathprefix2dict(sys.argv[1],"
        " required=['user-data', 'meta-data'], optional=['vendor-data', 'network-config']),"
        " default=lambda raw: raw.decode()))"
    )
    found = json.loads(cloud_init.run("-c", program, f"{tmp_path}/"))
    assert found == {
        "meta-data": seed.meta_data,
        "user-data": seed.user_data,
        "network-config": seed.network_config,
        "vendor-data": VENDOR_DATA,
    }


def test_an_iso_and_a_fat_image_are_the_same_files(tmp_path: Path) -> None:
    drive = config_drive_for(INSTANCE, NICS)
    iso, fat = tmp_path / "iso", tmp_path / "fat"
    iso.write_bytes(iso_for(drive))
    fat.write_bytes(fat_for(drive, scratch=tmp_path / "scratch"))
    for name, content in volume_for(drive).files.items():
        of_iso = subprocess.run(["isoinfo", "-i", iso, "-R", "-x", f"/{name}"], capture_output=True, check=True)
        of_fat = subprocess.run(["mcopy", "-i", fat, f"::{name}", "-"], capture_output=True, check=True)
        assert of_iso.stdout == of_fat.stdout == content
