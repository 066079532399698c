"""From what a request says of volumes to the records it stands for, and what may be asked of an instance that has some."""

import contextlib
from dataclasses import replace

from taskvisor.model.errors import Refused
from taskvisor.model.operation import Facts
from taskvisor.model.records import Instance
from taskvisor.model.spec import AttachVolumeSpec, VolumeSpec, parse_spec
from taskvisor.model.tuning import VolumeLimits, VolumeTuning
from taskvisor.model.volume import VolumeAttachment, parse_volume_source

ATTACH = "instance.attach_volume"
DETACH = "instance.detach_volume"
VOLUMES_LIMIT = 16
"""Of one instance, as of one build."""


def attachment_for(spec: VolumeSpec) -> VolumeAttachment:
    """The record of a volume that is asked for."""
    return VolumeAttachment(
        source=spec.source,
        serial=spec.known_serial,
        format=spec.format,
        device=None if spec.device is None else spec.device.removeprefix("/dev/"),
        bus=spec.bus,
        boot_index=spec.boot_index,
        tuning=VolumeTuning(
            shareable=spec.shareable,
            readonly=spec.readonly,
            cache=spec.cache,
            io=spec.io,
            discard=spec.discard,
            limits=VolumeLimits(
                total_bytes_s=spec.total_bytes_s,
                read_bytes_s=spec.read_bytes_s,
                write_bytes_s=spec.write_bytes_s,
                total_iops=spec.total_iops,
                read_iops=spec.read_iops,
                write_iops=spec.write_iops,
            ),
        ),
    )


def volume_asked(request: Facts) -> VolumeAttachment:
    """The volume that a request to attach one is about."""
    return attachment_for(parse_spec(AttachVolumeSpec, dict(request)).volume)


def volume_named(instance: Instance, name: str) -> VolumeAttachment:
    """The instance's volume of that serial or source. Refused when it has none such."""
    with contextlib.suppress(ValueError):  # it is a serial, or nothing
        name = parse_volume_source(name).url
    for volume in instance.volumes:
        if name in (volume.serial, volume.source):
            return volume
    raise Refused(
        f"volume: {name!r}: instance {instance.name} has no volume of that source or serial; see `taskvisor volume list"
        f" {instance.name}`"
    )


def has_already(flow: str, instance: Instance, request: Facts) -> bool:
    """What is asked to be attached is, and in that very way."""
    if flow != ATTACH:
        return False
    asked = volume_asked(request)
    return any(
        volume == replace(asked, device=asked.device or volume.device) and volume.device is not None
        for volume in instance.volumes
    )


def instance_with_request(flow: str, instance: Instance, request: Facts) -> Instance:
    """The record as it is from when the request is let in: a volume that is to be attached is in it. Refused when it can't be."""
    if flow == DETACH:
        volume_named(instance, str(request["volume"]))
    if flow != ATTACH:
        return instance
    asked = volume_asked(request)
    for volume in instance.volumes:
        _require_other(instance, volume, asked)
    if len(instance.volumes) >= VOLUMES_LIMIT:
        raise Refused(f"volume: instance {instance.name} has {len(instance.volumes)} volumes, and may have no more")
    return replace(instance, volumes=(*instance.volumes, asked))


def _require_other(instance: Instance, volume: VolumeAttachment, asked: VolumeAttachment) -> None:
    if volume.source == asked.source:
        raise Refused(
            f"volume: {asked.source} is attached to {instance.name} already, in another way; detach it there first"
        )
    for what, theirs, ours in (("serial", volume.serial, asked.serial), ("device", volume.device, asked.device)):
        if ours is not None and theirs == ours:
            raise Refused(f"volume: {what} {ours} of {instance.name} is that of {volume.source}; ask for another")
