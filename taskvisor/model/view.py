"""Records as callers see them: plain JSON, the same in a task's result, on the command line and in an event."""

from typing import TypedDict

from taskvisor.model.network import Port
from taskvisor.model.records import Flavor, Image, Instance
from taskvisor.model.urls import shown_url
from taskvisor.model.volume import VolumeAttachment


class PortView(TypedDict):
    """`address6` None: it has none. `nic` is its number in the guest."""

    id: str
    nic: int
    network: str
    mac: str
    address: str
    address6: str | None


class VolumeView(TypedDict):
    """`device` None: its place is not decided yet."""

    source: str
    serial: str
    device: str | None
    format: str
    shareable: bool
    readonly: bool


class OwnFlavorView(TypedDict):
    """The size that an instance was built with, whatever became of the flavor since."""

    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    swap_mib: int
    ephemeral_gib: int
    extra_specs: dict[str, str]


class InstanceView(TypedDict):
    """The outcome of every operation on an instance. Times are seconds since the epoch.

    `disks`: where its own disks lie (qcow2, raw, lvm:GROUP, rbd:POOL); None until its host has decided.
    """

    id: str
    name: str
    host: str
    addresses: list[str]
    vm_state: str
    task_state: str | None
    power_state: str
    flavor: OwnFlavorView
    image: str
    ports: list[PortView]
    metadata: dict[str, str]
    created_at: float
    launched_at: float | None
    fault: str | None
    volumes: list[VolumeView]
    disks: str | None
    project: str


class ImageView(TypedDict):
    """A registered image. `state`: ready, or deleting, and then `problem` may say what is in the way.

    `url` is without user, password and query. Sizes are 0 where nobody has looked.
    """

    id: str
    name: str
    url: str
    sha256: str | None
    format: str | None
    size_bytes: int
    virtual_bytes: int
    min_disk_gib: int
    min_memory_mib: int
    properties: dict[str, str]
    host: str | None
    created_at: float
    state: str
    problem: str | None
    base_image: str | None


class SnapshotImageView(ImageView):
    """The image that a snapshot made, and how: `why_not_quiesced` is None when it was quiesced."""

    method: str
    quiesced: bool
    why_not_quiesced: str | None


def instance_view(instance: Instance) -> InstanceView:
    """The instance for its caller; user data and keys stay out."""
    return {
        "id": instance.id,
        "name": instance.name,
        "host": instance.host,
        "addresses": list(instance.addresses),
        "vm_state": instance.vm_state.value,
        "task_state": instance.task_state.value if instance.task_state else None,
        "power_state": instance.power_state.label,
        "flavor": own_flavor_view(instance.flavor),
        "image": instance.image_name,
        "ports": [port_view(port) for port in instance.ports],
        "metadata": dict(instance.metadata),
        "created_at": instance.created_at,
        "launched_at": instance.launched_at,
        "fault": f"{instance.fault.code} at {instance.fault.step}: {instance.fault.message}"
        if instance.fault
        else None,
        "volumes": [volume_view(volume) for volume in instance.volumes],
        "disks": str(instance.disk_backend) if instance.disk_backend else None,
        "project": instance.project,
    }


def own_flavor_view(flavor: Flavor) -> OwnFlavorView:
    """The size of an instance for its caller."""
    return {
        "name": flavor.name,
        "vcpus": flavor.vcpus,
        "memory_mib": flavor.memory_mib,
        "disk_gib": flavor.disk_gib,
        "swap_mib": flavor.swap_mib,
        "ephemeral_gib": flavor.ephemeral_gib,
        "extra_specs": dict(flavor.extra_specs),
    }


def port_view(port: Port) -> PortView:
    """A NIC of an instance for its caller."""
    return {
        "id": port.id,
        "nic": port.index,
        "network": port.network,
        "mac": port.mac,
        "address": port.address,
        "address6": port.address6,
    }


def volume_view(volume: VolumeAttachment) -> VolumeView:
    """A volume of an instance for its caller."""
    return {
        "source": volume.source,
        "serial": volume.serial,
        "device": volume.device,
        "format": volume.format.value,
        "shareable": volume.tuning.shareable,
        "readonly": volume.tuning.readonly,
    }


def image_view(image: Image) -> ImageView:
    """The image for its caller."""
    return {
        "id": image.id,
        "name": image.name,
        "url": shown_url(image.source.url),
        "sha256": image.source.sha256,
        "format": str(image.source.format) if image.source.format else None,
        "size_bytes": image.size_bytes,
        "virtual_bytes": image.virtual_bytes,
        "min_disk_gib": image.min_disk_gib,
        "min_memory_mib": image.min_memory_mib,
        "properties": dict(image.properties),
        "host": image.host,
        "created_at": image.created_at,
        "state": "ready" if image.deletion is None else "deleting",
        "problem": image.deletion.problem if image.deletion else None,
        "base_image": image.base_image,
    }
