"""What a guest is told by its host's metadata service: a config drive's files and EC2's texts, by their paths. Pure.

The files are those of the config drive, whatever disk the guest's own cloud-init was given: both say the same.
https://docs.openstack.org/nova/latest/user/metadata.html#the-metadata-service
"""

from collections.abc import Mapping, Sequence

from taskvisor.model.plan import VifPlan
from taskvisor.model.records import Instance
from virt.seeds.config_drive import config_drive_for
from virt.seeds.ec2 import ec2_documents_for
from virt.seeds.volume import volume_for


def metadata_documents_for(
    instance: Instance, vifs: Sequence[VifPlan], *, vendor_data: str | None = None
) -> Mapping[str, str]:
    """The texts of an instance with these NICs, in NIC order. Refused when they are more than a config drive holds."""
    drive = volume_for(config_drive_for(instance, vifs, vendor_data=vendor_data))
    files = {path: content.decode() for path, content in drive.files.items()}
    return {**files, **ec2_documents_for(instance, vifs)}
