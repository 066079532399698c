"""The metadata service as Debian's own cloud-init reads it, from a guest's place on its network, without booting it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from tests.fixtures.debian import CloudInit
from tests.fixtures.namespaces import entered_namespace
from tests.net.hosts import guest_on
from tests.net.plans import vif
from tests.virt.sample_guests import INSTANCE
from virt.seeds.metadata import metadata_documents_for

pytestmark = [pytest.mark.real, pytest.mark.slow]

READ_OPENSTACK = """
import json
from cloudinit.sources.helpers import openstack
reader = openstack.MetadataReader("http://169.254.169.254", timeout=50)
found = reader.read_v2()
found["read"] = reader._find_working_version()
print(json.dumps(found, default=lambda raw: raw.decode("latin-1")))
"""
READ_EC2 = """
import json
from cloudinit.sources.helpers import ec2
found = ec2.get_instance_metadata("latest", "http://169.254.169.254", timeout=50)
found["user-data"] = ec2.get_instance_userdata("latest", "http://169.254.169.254", timeout=50)
print(json.dumps(found, default=lambda raw: raw.decode("latin-1")))
"""


def test_cloud_init_finds_all_of_it_at_openstacks_and_at_ec2s_paths(
    cloud_init: CloudInit, fabric: LinuxFabric, state_dir: Path
) -> None:
    nic = vif()
    documents = metadata_documents_for(replace(INSTANCE, user_data="#!/bin/sh\n"), [nic], vendor_data="#cloud-config\n")
    fabric.ensure_plugged(nic)
    fabric.ensure_told(nic, documents)
    with (
        guest_on(nic.bridge, state_dir.name[-8:], nic.address, nic.gateway, nic.mac) as guest,
        entered_namespace(guest),
    ):
        openstack = json.loads(cloud_init.run("-c", READ_OPENSTACK))
        ec2 = json.loads(cloud_init.run("-c", READ_EC2))
    fabric.ensure_unplugged(nic)
    assert openstack["read"] == "2018-08-27"
    assert openstack["userdata"] == "#!/bin/sh\n"
    assert openstack["metadata"]["instance-id"] == ec2["instance-id"] == INSTANCE.id
    assert openstack["vendordata"] == {"cloud-init": "#cloud-config\n"}
    assert openstack["networkdata"]["links"][0]["ethernet_mac_address"] == nic.mac
    assert ec2["user-data"] == "#!/bin/sh\n"
    assert ec2["placement"] == {"availability-zone": "nova"}
    assert ec2["public-keys"] == {"key-1": INSTANCE.ssh_keys[0]}
    assert ec2["local-ipv4"] == nic.address
