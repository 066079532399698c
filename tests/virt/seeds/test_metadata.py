"""What a guest is told by the metadata service: a config drive's files, and EC2's texts beside them."""

from dataclasses import replace

from tests.virt.sample_guests import INSTANCE, vif_of
from virt.seeds.config_drive import config_drive_for
from virt.seeds.ec2 import ec2_documents_for
from virt.seeds.metadata import metadata_documents_for
from virt.seeds.volume import volume_for

NICS = tuple(vif_of(port) for port in INSTANCE.ports)
VENDOR_DATA = "#cloud-config\n{}\n"


def test_the_files_of_a_config_drive_are_all_there_as_they_are() -> None:
    drive = volume_for(config_drive_for(INSTANCE, NICS, vendor_data=VENDOR_DATA)).files
    told = metadata_documents_for(INSTANCE, NICS, vendor_data=VENDOR_DATA)
    assert {path: told[path].encode() for path in drive} == drive


def test_ec2_is_told_what_nova_tells_it() -> None:
    told = ec2_documents_for(replace(INSTANCE, user_data="#!/bin/sh\n", ssh_keys=("ssh-a A", "ssh-b B")), NICS)
    assert told == {
        "latest/meta-data/ami-launch-index": "0",
        "latest/meta-data/hostname": "web",
        "latest/meta-data/instance-id": INSTANCE.id,
        "latest/meta-data/instance-type": INSTANCE.flavor.name,
        "latest/meta-data/local-hostname": "web",
        "latest/meta-data/local-ipv4": NICS[0].address,
        "latest/meta-data/mac": NICS[0].mac,
        "latest/meta-data/placement/availability-zone": "nova",
        "latest/meta-data/public-keys/": "0=key-1\n1=key-2",
        "latest/meta-data/public-keys/0/openssh-key": "ssh-a A",
        "latest/meta-data/public-keys/1/openssh-key": "ssh-b B",
        "latest/user-data": "#!/bin/sh\n",
    }


def test_what_there_is_none_of_is_not_told() -> None:
    told = ec2_documents_for(replace(INSTANCE, user_data=None, ssh_keys=()), [])
    names = {path.removeprefix("latest/meta-data/") for path in told}
    assert names == {
        "ami-launch-index",
        "hostname",
        "instance-id",
        "instance-type",
        "local-hostname",
        "placement/availability-zone",
    }
