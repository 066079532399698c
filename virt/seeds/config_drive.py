"""What cloud-init and its kin read of an OpenStack config drive, as text. Pure; the disk with it is made elsewhere.

The fields are Nova's (nova/api/metadata/base.py), those of network_data.json its specification's:
https://docs.openstack.org/nova/latest/user/metadata.html
https://specs.openstack.org/openstack/nova-specs/specs/liberty/implemented/metadata-service-network-info.html
What Nova has and Taskvisor does not is as Nova writes it for an instance without it: one launch index, one availability
zone, no tagged devices.
"""

import base64
import hashlib
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from taskvisor.model.plan import ConfigDrive, VifPlan
from taskvisor.model.records import Instance
from virt.seeds.nic6 import asks_by_dhcp6, is_told6_by_seed, leads_out6, prefix_length6_of
from virt.seeds.nocloud import guest_host_name_for
from virt.seeds.text import Value, json_for

AVAILABILITY_ZONE: Final = "nova"
"""Nova's `default_availability_zone`."""
PROJECT_ID_KEY: Final = "project_id"
"""Where an instance's metadata say whose it is, as for the metadata of its definition."""
RANDOM_SEED_BYTES: Final = 512


def config_drive_for(instance: Instance, vifs: Sequence[VifPlan], *, vendor_data: str | None = None) -> ConfigDrive:
    """The config drive of an instance with these NICs, in NIC order. `vendor_data` is a text for cloud-init."""
    static: Value = {} if vendor_data is None else {"cloud-init": vendor_data}
    return ConfigDrive(
        meta_data=json_for(_meta_data(instance, vifs)),
        network_data=json_for(_network_data(vifs)),
        vendor_data=json_for(static),
        vendor_data2=json_for({"static": static}),
        user_data=instance.user_data,
    )


def _meta_data(instance: Instance, vifs: Sequence[VifPlan]) -> dict[str, Value]:
    keys = {f"key-{number}": key for number, key in enumerate(instance.ssh_keys, start=1)}  # Nova's have names
    meta_data: dict[str, Value] = {
        "uuid": instance.id,
        "name": instance.name,
        "hostname": guest_host_name_for(instance, vifs),
        "launch_index": 0,
        "availability_zone": AVAILABILITY_ZONE,
        "random_seed": base64.b64encode(_random_seed_for(instance)).decode(),
        "devices": [],
    }
    if instance.metadata:
        meta_data["meta"] = dict(sorted(instance.metadata.items()))
    if keys:
        meta_data["public_keys"] = keys
        meta_data["keys"] = [{"name": name, "type": "ssh", "data": key} for name, key in keys.items()]
    if project_id := instance.metadata.get(PROJECT_ID_KEY):
        meta_data["project_id"] = project_id
    return meta_data


def _random_seed_for(instance: Instance) -> bytes:
    """Bytes of the guest's own, and no secret: they follow from its record, so that the same drive can be made again. The
    kernel credits no entropy to what is written to /dev/urandom (random(4)), and guests have a virtio RNG for that.
    """
    return hashlib.shake_256(f"taskvisor random_seed {instance.id} {instance.created_at!r}".encode()).digest(
        RANDOM_SEED_BYTES
    )


def _network_data(vifs: Sequence[VifPlan]) -> dict[str, Value]:
    servers = dict.fromkeys(server for vif in vifs if not vif.dhcp for server in vif.dns)
    return {
        "links": [_link(vif) for vif in vifs],
        "networks": [
            network for number, vif in enumerate(vifs) for network in (_network(vif, number), *_networks6(vif, number))
        ],
        "services": _name_servers(list(servers)),
    }


def _link(vif: VifPlan) -> Value:
    return {
        "id": vif.tap,
        "vif_id": vif.port_id,
        "type": "bridge",
        "mtu": vif.mtu,
        "ethernet_mac_address": vif.mac.lower(),
    }


def _network(vif: VifPlan, number: int) -> Value:
    common: dict[str, Value] = {"id": f"network{number}", "link": vif.tap, "network_id": vif.network_id}
    if vif.dhcp:
        return {**common, "type": "ipv4_dhcp"}
    return {
        **common,
        "type": "ipv4",
        "ip_address": vif.address,
        "netmask": str(ip_network(f"0.0.0.0/{vif.prefix_length}").netmask),
        # One default route, as in NoCloud's network-config.
        "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": vif.gateway}] if number == 0 else [],  # noqa: S104 - a route, no socket
        "services": _name_servers(vif.dns),
    }


def _networks6(vif: VifPlan, number: int) -> list[Value]:
    """What the specification has for IPv6: a network of its own on the same link."""
    if vif.address6 is None:
        return []
    common: dict[str, Value] = {"id": f"network{number}-ipv6", "link": vif.tap, "network_id": vif.network_id}
    if not is_told6_by_seed(vif):
        return [{**common, "type": "ipv6_dhcp" if asks_by_dhcp6(vif) else "ipv6_slaac"}]
    default = {"network": "::", "netmask": "::", "gateway": vif.gateway6}
    return [
        {
            **common,
            "type": "ipv6",
            "ip_address": vif.address6,
            "netmask": str(ip_network(f"::/{prefix_length6_of(vif)}").netmask),
            "routes": [default] if number == 0 and leads_out6(vif) else [],
        }
    ]


def _name_servers(addresses: Sequence[str]) -> list[Value]:
    return [{"type": "dns", "address": address} for address in addresses]
