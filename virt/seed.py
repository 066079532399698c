"""What cloud-init reads at first boot (NoCloud), as text. Pure; the ISO is made elsewhere.

All three files are YAML for cloud-init. What we write is JSON in YAML's clothes, so that no name, key or address can
break out of its quotes. https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
"""

import json
import re
from collections.abc import Sequence

from taskvisor.model.plan import Seed, VifPlan
from taskvisor.model.records import Instance

Yaml = str | int | bool | Sequence["Yaml"] | dict[str, "Yaml"]

HOST_NAME_LIMIT = 63
"""Letters of one DNS label (RFC 1035 §2.3.4)."""
_NOT_PLAIN = re.compile("[^\x20-\x7e]")


def seed_for(instance: Instance, vifs: Sequence[VifPlan]) -> Seed:
    """The seed of an instance with these NICs, in NIC order.

    The caller's user data pass through as they are; without any, a minimal cloud-config with the SSH keys is written.
    The keys are in the meta-data too, where cloud-init finds them whatever the user data are.
    """
    return Seed(
        meta_data=_text(
            {
                "instance-id": instance.id,
                "local-hostname": vifs[0].hostname if vifs else host_name_for(instance),
                "public-keys": list(instance.ssh_keys),
            }
        ),
        user_data=_default_user_data(instance.ssh_keys) if instance.user_data is None else instance.user_data,
        network_config=_text({"version": 2, "ethernets": {f"nic{n}": _nic(vif, n) for n, vif in enumerate(vifs)}}),
    )


def host_name_for(instance: Instance) -> str:
    """The instance's name as one label of a DNS name (RFC 1123 §2.1): `web.example` is `web-example`."""
    label = re.sub(r"[^a-z0-9]+", "-", instance.name.lower()).strip("-")[:HOST_NAME_LIMIT].rstrip("-")
    return label or f"instance-{instance.id[:8]}"


def _default_user_data(ssh_keys: Sequence[str]) -> str:
    # cloud-init tells the kind of user data by its first line, which is a comment to YAML.
    return "#cloud-config\n" + _text({"ssh_authorized_keys": list(ssh_keys)})


def _nic(vif: VifPlan, number: int) -> Yaml:
    nic: dict[str, Yaml] = {"match": {"macaddress": vif.mac.lower()}, "dhcp4": vif.dhcp}
    if vif.dhcp:
        return nic
    nic["addresses"] = [f"{vif.address}/{vif.prefix_length}"]
    if number == 0:  # one default route; netplan refuses more
        nic["routes"] = [{"to": "0.0.0.0/0", "via": vif.gateway}]
    if vif.dns:
        nic["nameservers"] = {"addresses": list(vif.dns)}
    return nic


def _text(value: Yaml) -> str:
    # Not json's own ASCII escapes: of a letter beyond U+FFFF they make two, which YAML reads as two letters.
    return _NOT_PLAIN.sub(_escape, json.dumps(value, ensure_ascii=False)) + "\n"


def _escape(match: re.Match[str]) -> str:
    code_point = ord(match[0])
    return f"\\u{code_point:04x}" if code_point <= 0xFFFF else f"\\U{code_point:08x}"
