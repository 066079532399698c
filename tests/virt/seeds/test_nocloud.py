"""What cloud-init reads, as cloud-init reads it: through a YAML parser."""

from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from taskvisor.model.plan import Seed
from tests.virt.sample_guests import INSTANCE, vif_of
from virt.seeds.nocloud import HOST_NAME_LIMIT, seed_for

VIF, SECOND_VIF = (vif_of(port) for port in INSTANCE.ports)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HOSTILE = "x\n- 'a': \"b\" #c\x00\x7f\x85\u2028\ufeff🐙 \\ud83d {[&*!|>%@`"


def test_a_seed_is_three_texts() -> None:
    assert seed_for(INSTANCE, [VIF]) == Seed(
        meta_data=f'{{"instance-id": "{INSTANCE.id}", "local-hostname": "web", '
        '"public-keys": ["ssh-ed25519 AAAAC3Nz me@home"]}\n',
        user_data='#cloud-config\n{"ssh_authorized_keys": ["ssh-ed25519 AAAAC3Nz me@home"]}\n',
        network_config='{"version": 2, "ethernets": {"nic0": {"match": '
        f'{{"macaddress": "{VIF.mac}"}}, "set-name": "nic0", "mtu": 1450, "dhcp4": true}}}}}}\n',
    )


@given(key=ANY_TEXT, host_name=ANY_TEXT)
@example(key=HOSTILE, host_name=HOSTILE)
def test_yaml_gives_back_whatever_was_put_in(key: str, host_name: str) -> None:
    seed = seed_for(replace(INSTANCE, ssh_keys=(key,)), [replace(VIF, hostname=host_name)])
    meta_data = yaml.safe_load(seed.meta_data)
    assert meta_data == {"instance-id": INSTANCE.id, "local-hostname": host_name, "public-keys": [key]}
    assert seed.user_data.startswith("#cloud-config\n")
    assert yaml.safe_load(seed.user_data) == {"ssh_authorized_keys": [key]}


@pytest.mark.parametrize("user_data", ["#!/bin/sh\necho hi\n", "", "\x00binary\xff", "#cloud-config\nusers: []\n"])
def test_the_callers_user_data_pass_through_untouched(user_data: str) -> None:
    assert seed_for(replace(INSTANCE, user_data=user_data), [VIF]).user_data == user_data


def test_the_vendors_data_pass_through_untouched_beside_the_callers() -> None:
    seed = seed_for(INSTANCE, [VIF], vendor_data="#!/bin/sh\n")
    assert (seed.vendor_data, seed.user_data) == ("#!/bin/sh\n", seed_for(INSTANCE, [VIF]).user_data)


def test_the_keys_reach_the_guest_beside_the_callers_user_data() -> None:
    seed = seed_for(replace(INSTANCE, user_data="#!/bin/sh\n"), [VIF])
    assert yaml.safe_load(seed.meta_data)["public-keys"] == list(INSTANCE.ssh_keys)


def test_each_nic_is_found_by_its_mac() -> None:
    network = yaml.safe_load(seed_for(INSTANCE, [VIF, replace(SECOND_VIF, mac=SECOND_VIF.mac.upper())]).network_config)
    assert network == {
        "version": 2,
        "ethernets": {
            "nic0": {"match": {"macaddress": VIF.mac}, "set-name": "nic0", "mtu": 1450, "dhcp4": True},
            "nic1": {"match": {"macaddress": SECOND_VIF.mac}, "set-name": "nic1", "mtu": 1450, "dhcp4": True},
        },
    }


def test_without_dhcp_the_address_is_static_and_only_the_first_nic_has_the_default_route() -> None:
    vifs = [vif_of(port, dhcp=False) for port in INSTANCE.ports]
    network = yaml.safe_load(seed_for(INSTANCE, vifs).network_config)
    assert network["ethernets"] == {
        "nic0": {
            "match": {"macaddress": VIF.mac},
            "set-name": "nic0",
            "mtu": 1450,
            "dhcp4": False,
            "addresses": ["10.0.0.5/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}],
            "nameservers": {"addresses": ["10.0.0.1"]},
        },
        "nic1": {
            "match": {"macaddress": SECOND_VIF.mac},
            "set-name": "nic1",
            "mtu": 1450,
            "dhcp4": False,
            "addresses": ["10.0.0.6/24"],
            "nameservers": {"addresses": ["10.0.0.1"]},
        },
    }


@pytest.mark.parametrize(
    ("name", "host_name"),
    [
        ("Web_Server 1", "web-server-1"),
        ("--é--", f"instance-{INSTANCE.id[:8]}"),
        ("a" * 62 + "-b", "a" * 62),
    ],
)
def test_without_nics_the_host_name_is_made_from_the_instances(name: str, host_name: str) -> None:
    seed = seed_for(replace(INSTANCE, name=name), [])
    assert yaml.safe_load(seed.meta_data)["local-hostname"] == host_name
    assert len(host_name) <= HOST_NAME_LIMIT
    assert yaml.safe_load(seed.network_config) == {"version": 2, "ethernets": {}}
