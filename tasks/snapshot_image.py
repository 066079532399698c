"""The record of an image that a snapshot made: so much of the guest's own that a guest built from it is like the first."""

from collections.abc import Mapping
from urllib.parse import quote

from taskvisor.model.ids import image_id_for
from taskvisor.model.operation import Facts, Operation
from taskvisor.model.records import Image, ImageSource, Instance
from taskvisor.model.states import ImageFormat

GIB = 1 << 30
NOT_INHERITED = frozenset({"bittorrent", "cache_in_nova"})
NOT_INHERITED_PREFIXES = ("img_signature", "os_glance_")
"""What is of the old image's own bytes, or of where it lay. Nova's non_inheritable_image_properties, and Glance's own."""


def image_made_by(operation: Operation, instance: Instance, made: Facts, now: float) -> Image:
    """The record. `made` is the published file, as its step found it."""
    virtual_bytes = int(made["virtual_bytes"])
    return Image(
        id=image_id_for(operation.id),
        name=str(operation.request["image"]),
        source=ImageSource(
            url="file://" + quote(made["path"]), sha256=made["sha256"], format=ImageFormat(made["format"])
        ),
        size_bytes=made["size_bytes"],
        virtual_bytes=virtual_bytes,
        created_at=now,
        host=instance.host,
        min_disk_gib=-(-virtual_bytes // GIB),
        min_memory_mib=instance.image_min_memory_mib,
        instance_id=instance.id,
        properties=inherited(instance),
        base_image=instance.image_name,
    )


def inherited(instance: Instance) -> Mapping[str, str]:
    """The properties of the image that the guest was made from, but for those of its bytes; and the board that it has."""
    kept = {
        key: value
        for key, value in instance.image_properties.items()
        if key not in NOT_INHERITED and not key.startswith(NOT_INHERITED_PREFIXES)
    }
    return kept if instance.machine is None else {"hw_machine_type": instance.machine, **kept}
