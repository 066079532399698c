"""The owner in Nova's dialect, for tools that read what nova-compute writes into a domain's metadata.

Written only, and beside our own element: whose a domain is, we read from ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from lxml import etree

from virt.domain.config import Attribute, Config
from virt.domain.text import escaped


class NovaDialect(StrEnum):
    """Nova's namespace, with the version that says what may stand in it."""

    V1_0 = "http://openstack.org/xmlns/libvirt/nova/1.0"
    V1_1 = "http://openstack.org/xmlns/libvirt/nova/1.1"  # with flavor id, extra specs, image and ports


@dataclass(frozen=True, kw_only=True)
class NovaFlavorConfig:
    """The flavor as it was when the guest was made. `id` and `extra_specs` came with 1.1."""

    name: str
    memory_mib: int
    disk_gib: int
    swap_mib: int
    ephemeral_gib: int
    vcpus: int
    id: str | None = None
    extra_specs: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class NovaImageConfig:
    """The image as it was when the guest was made (1.1)."""

    uuid: str
    container_format: str
    disk_format: str
    min_disk_gib: int
    min_memory_mib: int
    properties: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class NovaAddressConfig:
    """An address of a port (1.1)."""

    type: str  # fixed or floating
    address: str
    ip_version: int


@dataclass(frozen=True, kw_only=True)
class NovaPortConfig:
    """A port of the guest (1.1)."""

    uuid: str
    addresses: tuple[NovaAddressConfig, ...]


@dataclass(frozen=True, kw_only=True)
class NovaRootConfig:
    """What the root disk was made of: `type` is image or volume."""

    type: str
    uuid: str


@dataclass(frozen=True, kw_only=True)
class NovaOwnerConfig(Config):
    """Whose domain this is, as Nova says it. All text is `escaped`.

        <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
          <nova:package version="33.1.0"/>
          <nova:name>web</nova:name>
          <nova:creationTime>2016-08-19 03:17:58</nova:creationTime>
          <nova:flavor name="m1.small" id="2">
            <nova:memory>2048</nova:memory>
            …
            <nova:extraSpecs>
              <nova:extraSpec name="hw_rng:allowed">True</nova:extraSpec>
            </nova:extraSpecs>
          </nova:flavor>
          <nova:image uuid="…">…</nova:image>
          <nova:owner>
            <nova:user uuid="…">demo</nova:user>
            <nova:project uuid="…">demo</nova:project>
          </nova:owner>
          <nova:root type="image" uuid="…"/>
          <nova:ports>
            <nova:port uuid="…">
              <nova:ip type="fixed" address="10.0.0.5" ipVersion="4"/>
            </nova:port>
          </nova:ports>
        </nova:instance>

    `image` and `ports` came with 1.1; what is None is left out.
    """

    dialect: NovaDialect
    package_version: str
    name: str
    created_at: float
    flavor: NovaFlavorConfig
    user: str
    user_uuid: str
    project: str
    project_uuid: str
    root: NovaRootConfig | None = None
    image: NovaImageConfig | None = None
    ports: tuple[NovaPortConfig, ...] | None = None

    def to_element(self) -> etree._Element:
        created = datetime.fromtimestamp(self.created_at, UTC)
        parts = [
            self._element("package", version=self.package_version),
            self._text("name", self.name),
            self._text("creationTime", f"{created:%Y-%m-%d %H:%M:%S}"),
            self._flavor(),
            self._image(),
            self._owner(),
            None if self.root is None else self._element("root", type=self.root.type, uuid=self.root.uuid),
            self._ports(),
        ]
        return self._element("instance", *parts)

    def _flavor(self) -> etree._Element:
        flavor = self.flavor
        sizes = {
            "memory": flavor.memory_mib,
            "disk": flavor.disk_gib,
            "swap": flavor.swap_mib,
            "ephemeral": flavor.ephemeral_gib,
            "vcpus": flavor.vcpus,
        }
        parts = [self._text(tag, size) for tag, size in sizes.items()]
        if flavor.extra_specs is not None:
            specs = [self._text("extraSpec", value, name=name) for name, value in sorted(flavor.extra_specs.items())]
            parts.append(self._element("extraSpecs", *specs))
        return self._element("flavor", *parts, name=flavor.name, id=flavor.id)

    def _image(self) -> etree._Element | None:
        image = self.image
        if image is None:
            return None
        return self._element(
            "image",
            self._text("containerFormat", image.container_format),
            self._text("diskFormat", image.disk_format),
            self._text("minDisk", image.min_disk_gib),
            self._text("minRam", image.min_memory_mib),
            self._element(
                "properties",
                *(self._text("property", value, name=name) for name, value in sorted(image.properties.items())),
            ),
            uuid=image.uuid,
        )

    def _owner(self) -> etree._Element:
        return self._element(
            "owner",
            self._text("user", self.user, uuid=self.user_uuid),
            self._text("project", self.project, uuid=self.project_uuid),
        )

    def _ports(self) -> etree._Element | None:
        return None if self.ports is None else self._element("ports", *map(self._port, self.ports))

    def _port(self, port: NovaPortConfig) -> etree._Element:
        addresses = [
            self._element("ip", type=address.type, address=address.address, ipVersion=address.ip_version)
            for address in port.addresses
        ]
        return self._element("port", *addresses, uuid=port.uuid)

    def _text(self, tag: str, text: str | int, /, **attributes: Attribute) -> etree._Element:
        made = self._element(tag, **attributes)
        made.text = escaped(str(text))
        return made

    def _element(self, tag: str, /, *children: etree._Element | None, **attributes: Attribute) -> etree._Element:
        texts = {name: escaped(str(value)) for name, value in attributes.items() if value is not None}
        made = etree.Element(f"{{{self.dialect}}}{tag}", texts, nsmap={"nova": str(self.dialect)})
        made.extend(child for child in children if child is not None)
        return made
