"""What cloud-init reads of a config drive, as it reads it: through a JSON parser."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvisor.model.plan import ConfigDrive
from tests.virt.sample_guests import INSTANCE, vif_of
from virt.seeds.config_drive import RANDOM_SEED_BYTES, config_drive_for

VIF, SECOND_VIF = (vif_of(port) for port in INSTANCE.ports)
STATIC, SECOND_STATIC = (vif_of(port, dhcp=False) for port in INSTANCE.ports)
KEY = "ssh-ed25519 AAAAC3Nz me@home"
ANYWHERE = "0.0.0.0"  # noqa: S104 - a route, no socket
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def meta_data_of(drive: ConfigDrive) -> dict[str, Any]:
    meta_data: dict[str, Any] = json.loads(drive.meta_data)
    return meta_data


def test_the_metadata_are_novas() -> None:
    meta_data = meta_data_of(config_drive_for(INSTANCE, [VIF]))
    random_seed = meta_data.pop("random_seed")
    assert meta_data == {
        "uuid": INSTANCE.id,
        "name": "web",
        "hostname": "web",
        "launch_index": 0,
        "availability_zone": "nova",
        "devices": [],
        "meta": {"role": "db", "empty": "", "note": " two\nlines\t"},
        "public_keys": {"key-1": KEY},
        "keys": [{"name": "key-1", "type": "ssh", "data": KEY}],
    }
    assert len(base64.b64decode(random_seed)) == RANDOM_SEED_BYTES == 512


def test_what_there_is_none_of_is_left_out_as_nova_does() -> None:
    bare = config_drive_for(replace(INSTANCE, ssh_keys=(), metadata={}), [])
    assert set(meta_data_of(bare)) == {
        "uuid",
        "name",
        "hostname",
        "launch_index",
        "availability_zone",
        "random_seed",
        "devices",
    }
    assert (bare.user_data, bare.vendor_data, bare.vendor_data2) == (None, "{}\n", '{"static": {}}\n')


def test_whose_the_guest_is_is_taken_from_its_metadata() -> None:
    owned = config_drive_for(replace(INSTANCE, metadata={"project_id": "4d1c"}), [VIF])
    assert meta_data_of(owned)["project_id"] == "4d1c"


def test_a_guests_random_seed_is_its_own_and_stays() -> None:
    seeds = [
        meta_data_of(config_drive_for(guest, vifs))["random_seed"]
        for guest, vifs in (
            (INSTANCE, [VIF]),
            (replace(INSTANCE, ssh_keys=(), metadata={"a": "b"}), []),
            (replace(INSTANCE, created_at=INSTANCE.created_at + 1), [VIF]),
        )
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_same_instance_has_the_same_drive() -> None:
    assert config_drive_for(INSTANCE, [VIF], vendor_data="x") == config_drive_for(INSTANCE, [VIF], vendor_data="x")


def test_nics_with_dhcp_are_told_by_mac_and_mtu() -> None:
    network = json.loads(config_drive_for(INSTANCE, [replace(VIF, mac=VIF.mac.upper())]).network_data)
    assert network == {
        "links": [
            {
                "id": VIF.tap,
                "vif_id": VIF.port_id,
                "type": "bridge",
                "mtu": 1450,
                "ethernet_mac_address": VIF.mac,
            }
        ],
        "networks": [{"id": "network0", "link": VIF.tap, "network_id": VIF.network_id, "type": "ipv4_dhcp"}],
        "services": [],
    }


def test_without_dhcp_addresses_are_static_and_only_the_first_nic_has_the_default_route() -> None:
    network = json.loads(config_drive_for(INSTANCE, [STATIC, SECOND_STATIC]).network_data)
    dns = [{"type": "dns", "address": "10.0.0.1"}]
    assert network["networks"] == [
        {
            "id": "network0",
            "link": STATIC.tap,
            "network_id": STATIC.network_id,
            "type": "ipv4",
            "ip_address": "10.0.0.5",
            "netmask": "255.255.255.0",
            "routes": [{"network": ANYWHERE, "netmask": ANYWHERE, "gateway": "10.0.0.1"}],
            "services": dns,
        },
        {
            "id": "network1",
            "link": SECOND_STATIC.tap,
            "network_id": SECOND_STATIC.network_id,
            "type": "ipv4",
            "ip_address": "10.0.0.6",
            "netmask": "255.255.255.0",
            "routes": [],
            "services": dns,
        },
    ]
    assert network["services"] == dns


@pytest.mark.parametrize(("prefix_length", "netmask"), [(16, "255.255.0.0"), (32, "255.255.255.255")])
def test_a_prefix_is_told_as_a_netmask(prefix_length: int, netmask: str) -> None:
    network = json.loads(config_drive_for(INSTANCE, [replace(STATIC, prefix_length=prefix_length)]).network_data)
    assert network["networks"][0]["netmask"] == netmask


@given(name=ANY_TEXT, value=ANY_TEXT, vendor=ANY_TEXT)
def test_json_gives_back_whatever_was_put_in(name: str, value: str, vendor: str) -> None:
    drive = config_drive_for(replace(INSTANCE, name=name, metadata={name: value}), [], vendor_data=vendor)
    meta_data = meta_data_of(drive)
    assert (meta_data["name"], meta_data["meta"]) == (name, {name: value})
    assert json.loads(drive.vendor_data) == {"cloud-init": vendor}
    assert json.loads(drive.vendor_data2) == {"static": {"cloud-init": vendor}}


@pytest.mark.parametrize("user_data", ["#!/bin/sh\necho hi\n", "", "#cloud-config\nusers: []\n"])
def test_the_callers_user_data_pass_through_untouched(user_data: str) -> None:
    assert config_drive_for(replace(INSTANCE, user_data=user_data), [VIF]).user_data == user_data
