"""What cloud-init reads at boot (NoCloud), as text. Pure; the disk with it is made elsewhere.

All the files are YAML for cloud-init, but for user and vendor data, which are whatever their author wrote.
https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
https://docs.cloud-init.io/en/latest/reference/network-config-format-v2.html
"""

import re
from collections.abc import Sequence

from taskvisor.model.plan import Seed, VifPlan
from taskvisor.model.records import Instance
from virt.seeds.nic6 import asks_by_dhcp6, is_told6_by_seed, leads_out6, prefix_length6_of
from virt.seeds.text import Value, yaml_for

HOST_NAME_LIMIT = 63
"""Letters of one DNS label (RFC 1035 §2.3.4)."""


def seed_for(instance: Instance, vifs: Sequence[VifPlan], *, vendor_data: str | None = None) -> Seed:
    """The seed of an instance with these NICs, in NIC order.

    The caller's user data pass through as they are; without any, a minimal cloud-config with the SSH keys is written.
    The keys are in the meta-data too, where cloud-init finds them whatever the user data are.
    """
    return Seed(
        meta_data=yaml_for(
            {
                "instance-id": instance.id,
                "local-hostname": guest_host_name_for(instance, vifs),
                "public-keys": list(instance.ssh_keys),
            }
        ),
        user_data=_default_user_data(instance.ssh_keys) if instance.user_data is None else instance.user_data,
        network_config=yaml_for({"version": 2, "ethernets": {f"nic{n}": _nic(vif, n) for n, vif in enumerate(vifs)}}),
        vendor_data=vendor_data,
    )


def guest_host_name_for(instance: Instance, vifs: Sequence[VifPlan]) -> str:
    """What the guest calls itself: what DHCP tells its first NIC."""
    return vifs[0].hostname if vifs else host_name_for(instance)


def host_name_for(instance: Instance) -> str:
    """The instance's name as one label of a DNS name (RFC 1123 §2.1): `web.example` is `web-example`."""
    label = re.sub(r"[^a-z0-9]+", "-", instance.name.lower()).strip("-")[:HOST_NAME_LIMIT].rstrip("-")
    return label or f"instance-{instance.id[:8]}"


def _default_user_data(ssh_keys: Sequence[str]) -> str:
    # cloud-init tells the kind of user data by its first line, which is a comment to YAML.
    return "#cloud-config\n" + yaml_for({"ssh_authorized_keys": list(ssh_keys)})


def _nic(vif: VifPlan, number: int) -> Value:
    """A NIC is found by its MAC and renamed: guests whose network is ifupdown's or sysconfig's are configured by name, and
    cloud-init takes the key for the name where none is set; and systemd-networkd sets no MTU of a NIC that it does not name.
    Not eth0: the kernel hands out such names itself, and two NICs would be in each other's way (systemd.link(5)).
    """
    return {
        "match": {"macaddress": vif.mac.lower()},
        "set-name": f"nic{number}",
        "mtu": vif.mtu,
        "dhcp4": vif.dhcp,
        **({"dhcp6": True} if asks_by_dhcp6(vif) else {}),
        **_static(vif, number),
    }


def _static(vif: VifPlan, number: int) -> dict[str, Value]:
    """What nobody will tell the guest on that network. One default route of a family: netplan refuses more."""
    own = [] if vif.dhcp else [f"{vif.address}/{vif.prefix_length}"]
    own6 = [f"{vif.address6}/{prefix_length6_of(vif)}"] if is_told6_by_seed(vif) else []
    default = [] if vif.dhcp or number else [{"to": "0.0.0.0/0", "via": vif.gateway}]
    default6 = [{"to": "::/0", "via": vif.gateway6}] if own6 and leads_out6(vif) and not number else []
    static: dict[str, Value] = {}
    if own or own6:
        static["addresses"] = [*own, *own6]
    if default or default6:
        static["routes"] = [*default, *default6]
    if vif.dns and not vif.dhcp:
        static["nameservers"] = {"addresses": list(vif.dns)}
    return static
