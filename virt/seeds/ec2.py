"""What EC2's metadata service says of an instance, as far as Nova says it too, as texts by their paths. Pure.

For programs in guests that ask at EC2's paths (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/
instancedata-data-categories.html); Nova's service (nova/api/metadata/base.py) answers there with the same names. Where Nova
makes an EC2 id of its own (`i-0000002a`), the instance's id stands.
"""

from collections.abc import Mapping, Sequence

from taskvisor.model.plan import VifPlan
from taskvisor.model.records import Instance
from virt.seeds.config_drive import AVAILABILITY_ZONE
from virt.seeds.nocloud import guest_host_name_for

ROOT = "latest"
META_DATA = f"{ROOT}/meta-data"


def ec2_documents_for(instance: Instance, vifs: Sequence[VifPlan]) -> Mapping[str, str]:
    """The texts. A path that ends in a slash is a listing in words of its own: keys are listed as `number=name`."""
    host_name = guest_host_name_for(instance, vifs)
    facts = {
        "ami-launch-index": "0",
        "hostname": host_name,
        "instance-id": instance.id,
        "instance-type": instance.flavor.name,
        "local-hostname": host_name,
        "placement/availability-zone": AVAILABILITY_ZONE,
        **({"local-ipv4": vifs[0].address, "mac": vifs[0].mac.lower()} if vifs else {}),
        **_keys(instance.ssh_keys),
    }
    user_data = {} if instance.user_data is None else {f"{ROOT}/user-data": instance.user_data}
    return {**{f"{META_DATA}/{name}": text for name, text in facts.items()}, **user_data}


def _keys(keys: Sequence[str]) -> Mapping[str, str]:
    if not keys:
        return {}
    listing = "\n".join(f"{number}=key-{number + 1}" for number in range(len(keys)))
    texts = {f"public-keys/{number}/openssh-key": key for number, key in enumerate(keys)}
    return {"public-keys/": listing, **texts}
