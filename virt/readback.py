"""XML that libvirt gives back, read into values: whose a domain is, what it has, and the record it carries.

Knows no connection and asks nothing.
"""

from dataclasses import dataclass

import msgspec
from lxml import etree

from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.ids import HostName, InstanceId, NetworkId, PortId
from taskvisor.model.network import Port
from taskvisor.model.numa import GuestPlace
from taskvisor.model.records import Flavor, ImageSource, Instance
from taskvisor.model.states import ImageFormat, PowerState, SeedKind, VirtType
from taskvisor.model.volume import VolumeAttachment
from virt.domain.owner import DEFAULT_PROJECT, NAMESPACE, SCHEMA_VERSION
from virt.domain.text import unescaped
from virt.libvirt_xml import parse_tree

_OURS = f"{{{NAMESPACE}}}"


_UNIT_BYTES = {"b": 1, "bytes": 1, "KiB": 1024, "k": 1024, "MiB": 1024**2, "M": 1024**2, "GiB": 1024**3, "G": 1024**3}
"""As https://libvirt.org/formatdomain.html#memory-allocation has them; a larger one no domain is written in."""


@dataclass(frozen=True, kw_only=True)
class DiskSeen:
    """A disk as the domain has it; `path` (of a file or a device, or POOL/IMAGE) is None for an empty drive."""

    device: str
    path: str | None
    format: str | None
    readonly: bool
    serial: str | None = None


@dataclass(frozen=True, kw_only=True)
class DomainSeen:
    """What a domain's XML says of it. `owner` is the instance that our metadata name; None when it bears none of ours."""

    name: str
    uuid: str
    owner: InstanceId | None
    vnc_port: int | None
    disks: tuple[DiskSeen, ...]
    taps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EmulatorSeen:
    """What libvirt would run a guest with (virConnectGetDomainCapabilities)."""

    emulator: str
    machine: str
    arch: str


def parse_domain(xml: str) -> DomainSeen:
    """What the XML of a domain says; UnreadableRecord when it is no domain."""
    root = parse_tree(xml, "domain")
    instance = root.find(f"metadata/{_OURS}instance")
    return DomainSeen(
        name=root.findtext("name", ""),
        uuid=root.findtext("uuid", ""),
        owner=None if instance is None else _owner_id(instance),
        vnc_port=_vnc_port(root),
        disks=tuple(_disk(disk) for disk in root.iterfind("devices/disk")),
        taps=tuple(target.get("dev", "") for target in root.iterfind("devices/interface/target[@dev]")),
    )


def parse_size(xml: str) -> tuple[int, int]:
    """The virtual CPUs and the memory in MiB that a domain's XML gives it; 0 of what it does not say. UnreadableRecord when it is
    no domain, or says of either what is no number.
    """
    root = parse_tree(xml, "domain")
    memory = root.find("memory")
    try:
        unit_bytes = 1024 if memory is None else _UNIT_BYTES[memory.get("unit", "KiB")]
        size = int(root.findtext("memory", "0"))
        return int(root.findtext("vcpu", "0")), size * unit_bytes // 1024**2
    except (KeyError, ValueError) as error:
        raise UnreadableRecord(f"cannot read the size of a domain: {error}") from error


def parse_disk(xml: str) -> DiskSeen:
    """What the XML of one disk says; UnreadableRecord when it is none."""
    return _disk(parse_tree(xml, "disk"))


def parse_owner(metadata_xml: str) -> InstanceId | None:
    """The instance that our metadata element names; None when it names none, so that nobody takes the domain for ours.

    libvirt hands the element out without its namespace (virDomainGetMetadata).
    """
    return _owner_id(parse_tree(metadata_xml, "instance"))


def parse_emulator(domain_capabilities_xml: str) -> EmulatorSeen:
    """Emulator, canonical machine and architecture, of domain capabilities."""
    root = parse_tree(domain_capabilities_xml, "domainCapabilities")
    return EmulatorSeen(
        emulator=root.findtext("path", ""), machine=root.findtext("machine", ""), arch=root.findtext("arch", "")
    )


def instance_from_xml(xml: str, power_state: PowerState) -> Instance:
    """The record of the instance, rebuilt from its domain's XML as far as that holds it.

    What the domain does not know is left at rest and empty: no task, no fault, no launch time; keys and user data are in
    the seed only. `vm_state` follows the power state. UnreadableRecord when the domain is not ours, or a newer version
    wrote its metadata.
    """
    root = parse_tree(xml, "domain")
    owner = root.find(f"metadata/{_OURS}instance")
    if owner is None:
        raise UnreadableRecord(f"domain {root.findtext('name')} bears no metadata of ours; it has no record to rebuild")
    try:
        _require_known_schema(owner)
        return _instance(root, owner, power_state)
    except ValueError as error:
        raise UnreadableRecord(f"the metadata of domain {root.findtext('name')} cannot be read: {error}") from error


def _instance(root: etree._Element, owner: etree._Element, power_state: PowerState) -> Instance:
    instance_id = InstanceId(_text(owner, "id"))
    return Instance(
        id=instance_id,
        name=_text(owner, "name"),
        host=HostName(_text(owner, "host")),
        vm_state=power_state.vm_state,
        task_state=None,
        power_state=power_state,
        flavor=_flavor(_child(owner, "flavor")),
        image=_image(_child(owner, "image")),
        image_name=_text(_child(owner, "image"), "name"),
        ports=tuple(_port(port, instance_id) for port in owner.iterfind(f"{_OURS}port")),
        virt_type=VirtType(root.get("type", "")),
        machine=_machine(root),
        disk_backend=_disk_backend(owner),
        image_properties=_entries(_child(owner, "image")),
        metadata=_entries(owner),
        config_drive=SeedKind(owner.get("config_drive", SeedKind.NOCLOUD)),
        seed_known=False,
        created_at=float(_text(owner, "created_at")),
        project=unescaped(owner.get("project", DEFAULT_PROJECT)),
        place=_place(owner),
        volumes=tuple(_volume(volume) for volume in owner.iterfind(f"{_OURS}volume")),
    )


def _owner_id(instance: etree._Element) -> InstanceId | None:
    found = instance.get("id")
    return None if found is None else InstanceId(unescaped(found))


def _require_known_schema(owner: etree._Element) -> None:
    schema = int(_text(owner, "schema"))
    if schema > SCHEMA_VERSION:
        raise UnreadableRecord(
            f"the metadata of instance {_text(owner, 'id')} have schema {schema}, written by a newer version; "
            f"this one reads up to {SCHEMA_VERSION}; upgrade this host"
        )


def _flavor(found: etree._Element) -> Flavor:
    return Flavor(
        name=_text(found, "name"),
        vcpus=int(_text(found, "vcpus")),
        memory_mib=int(_text(found, "memory_mib")),
        disk_gib=int(_text(found, "disk_gib")),
        swap_mib=int(found.get("swap_mib", "0")),
        ephemeral_gib=int(found.get("ephemeral_gib", "0")),
        extra_specs=_entries(found),
    )


def _entries(found: etree._Element) -> dict[str, str]:
    return {_text(entry, "key"): _text(entry, "value") for entry in found.iterfind(f"{_OURS}entry")}


def _machine(root: etree._Element) -> str | None:
    found = root.find("os/type")
    return None if found is None else found.get("machine")


def _disk_backend(owner: etree._Element) -> DiskBackend | None:
    kind = owner.get("disk_backend")
    return None if kind is None else DiskBackend(kind=BackendKind(kind), pool=unescaped(owner.get("disk_pool", "")))


def _place(owner: etree._Element) -> GuestPlace | None:
    text = owner.get("place")
    if text is None:
        return None
    try:
        return msgspec.json.decode(unescaped(text), type=GuestPlace)
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(f"the metadata's record of its place cannot be read: {error}") from error


def _image(found: etree._Element) -> ImageSource:
    image_format = found.get("format")
    return ImageSource(
        url=_text(found, "url"),
        sha256=found.get("sha256"),
        format=None if image_format is None else ImageFormat(image_format),
    )


def _port(found: etree._Element, instance_id: InstanceId) -> Port:
    plain = Port(
        id=PortId(_text(found, "id")),
        instance_id=instance_id,
        network_id=NetworkId(_text(found, "network_id")),
        network=_text(found, "network"),
        index=int(_text(found, "index")),
        mac=_text(found, "mac"),
        address=_text(found, "address"),
    )
    return _with_more(plain, found.get("record"))


def _with_more(port: Port, record: str | None) -> Port:
    """The port with what its record has beyond its attributes."""
    if record is None:
        return port
    try:
        more = msgspec.json.decode(unescaped(record), type=dict[str, object])
        return msgspec.convert({**msgspec.to_builtins(port), **more}, Port)
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(f"the metadata's record of port {port.id} cannot be read: {error}") from error


def _volume(found: etree._Element) -> VolumeAttachment:
    try:
        return msgspec.json.decode(_text(found, "record"), type=VolumeAttachment)
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(
            f"the metadata's record of volume {found.get('source')} cannot be read: {error}"
        ) from error


def _vnc_port(root: etree._Element) -> int | None:
    # An autoport is -1 until the guest runs.
    port = next((int(vnc.get("port", "-1")) for vnc in root.iterfind("devices/graphics[@type='vnc']")), -1)
    return port if port > 0 else None


def _source_path(source: etree._Element) -> str | None:
    return source.get("file") or source.get("dev") or source.get("name")


def _disk(found: etree._Element) -> DiskSeen:
    source, driver, target = found.find("source"), found.find("driver"), found.find("target")
    return DiskSeen(
        device="" if target is None else target.get("dev", ""),
        path=None if source is None else _source_path(source),
        format=None if driver is None else driver.get("type"),
        readonly=found.find("readonly") is not None,
        serial=found.findtext("serial"),
    )


def _child(owner: etree._Element, tag: str) -> etree._Element:
    found = owner.find(f"{_OURS}{tag}")
    if found is None:
        raise UnreadableRecord(f"the metadata of instance {owner.get('id')} have no {tag}")
    return found


def _text(found: etree._Element, name: str) -> str:
    value = found.get(name)
    if value is None:
        raise UnreadableRecord(f"the metadata element {etree.QName(found).localname} has no {name}")
    return unescaped(value)
