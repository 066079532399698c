"""The copy of the instance's record that the domain carries, so that Redis can be rebuilt from the hosts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import msgspec
from lxml import etree

from taskvisor.model.disk_backend import DiskBackend
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.network import Port
from taskvisor.model.records import Flavor, ImageSource
from taskvisor.model.states import SeedKind
from virt.domain.config import Attribute, Config
from virt.domain.text import escaped

NAMESPACE = "urn:taskvisor:instance:1"
"""Of our element in `<metadata>`. A URN, since we hold no domain name; its number changes when old readers must not see it."""

DEFAULT_PROJECT = "default"
"""Whose the guests are of which nothing is said."""

SCHEMA_VERSION = 1
"""Of the element's content. A reader refuses, in words, what a newer version wrote."""


@dataclass(frozen=True, kw_only=True)
class OwnerConfig(Config):
    r"""Whose domain this is. All text is `escaped`; keys and user data stay out, they are in the seed.

    Values are attributes and never element text: libvirt drops text that is only white space.

        <tv:instance xmlns:tv="urn:taskvisor:instance:1" schema="1" id="6ba7…" name="web" host="node1" created_at="1700000000.0"
                     disk_backend="lvm" disk_pool="guests" config_drive="configdrive" project="lab" place="{…}">
          <tv:flavor name="small" vcpus="1" memory_mib="512" disk_gib="10" swap_mib="64" ephemeral_gib="1">
            <tv:entry key="hw:cpu_policy" value="dedicated"/>
          </tv:flavor>
          <tv:image name="debian-12" url="https://…" sha256="…" format="qcow2">
            <tv:entry key="hw_disk_bus" value="scsi"/>
          </tv:image>
          <tv:port id="…" network="default" network_id="…" mac="52:54:00:…" address="10.0.0.5" index="0"/>
          <tv:volume source="rbd://volumes/db" record="…"/>
          <tv:entry key="role" value="db"/>
        </tv:instance>

    `place` is a GuestPlace as JSON: what of its host is this guest's alone.
    `volumes` are by source, each record a VolumeAttachment as JSON.
    A port of which more is to be said has a record too: that, as JSON.

    https://libvirt.org/formatdomain.html#general-metadata
    """

    instance_id: InstanceId
    name: str
    host: HostName
    created_at: float
    flavor: Flavor
    image: ImageSource
    image_name: str
    ports: tuple[Port, ...]
    metadata: Mapping[str, str]
    image_properties: Mapping[str, str] = field(default_factory=dict)
    disk_backend: DiskBackend | None = None
    config_drive: SeedKind = SeedKind.NOCLOUD
    place: str | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)
    project: str = DEFAULT_PROJECT

    def to_element(self) -> etree._Element:
        root = _owned(
            "instance",
            schema=SCHEMA_VERSION,
            id=self.instance_id,
            name=self.name,
            host=self.host,
            created_at=repr(self.created_at),
            disk_backend=None if self.disk_backend is None else self.disk_backend.kind,
            disk_pool=None if self.disk_backend is None else self.disk_backend.pool or None,
            config_drive=None if self.config_drive is SeedKind.NOCLOUD else self.config_drive,
            project=None if self.project == DEFAULT_PROJECT else self.project,
            place=self.place,
        )
        root.append(self._flavor())
        root.append(self._image())
        root.extend(_port(port) for port in self.ports)
        root.extend(_owned("volume", source=source, record=record) for source, record in self.volumes.items())
        root.extend(_entries(self.metadata))
        return root

    def _flavor(self) -> etree._Element:
        flavor = self.flavor
        made = _owned(
            "flavor",
            name=flavor.name,
            vcpus=flavor.vcpus,
            memory_mib=flavor.memory_mib,
            disk_gib=flavor.disk_gib,
            swap_mib=flavor.swap_mib or None,
            ephemeral_gib=flavor.ephemeral_gib or None,
        )
        made.extend(_entries(flavor.extra_specs))
        return made

    def _image(self) -> etree._Element:
        image = self.image
        made = _owned("image", name=self.image_name, url=image.url, sha256=image.sha256, format=image.format)
        made.extend(_entries(self.image_properties))
        return made


def _entries(texts: Mapping[str, str]) -> Iterator[etree._Element]:
    return (_owned("entry", key=key, value=value) for key, value in sorted(texts.items()))


def _port(port: Port) -> etree._Element:
    return _owned(
        "port",
        id=port.id,
        network=port.network,
        network_id=port.network_id,
        mac=port.mac,
        address=port.address,
        index=port.index,
        record=_record_of(port),
    )


def _record_of(port: Port) -> str | None:
    """What the port has beyond its attributes, as JSON; None when that is nothing."""
    plain = Port(
        id=port.id,
        instance_id=port.instance_id,
        network_id=port.network_id,
        network=port.network,
        index=port.index,
        mac=port.mac,
        address=port.address,
    )
    names = (field.name for field in fields(port))
    more = {name: getattr(port, name) for name in names if getattr(port, name) != getattr(plain, name)}
    return msgspec.json.encode(more).decode() if more else None


def _owned(tag: str, **attributes: Attribute) -> etree._Element:
    texts = {name: escaped(str(value)) for name, value in attributes.items() if value is not None}
    return etree.Element(f"{{{NAMESPACE}}}{tag}", texts, nsmap={"tv": NAMESPACE})
