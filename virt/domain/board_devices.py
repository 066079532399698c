"""Devices that belong to the board: memory sticks, a TPM, an IOMMU."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import (
    Config,
    DeviceConfig,
    element,
    element_of,
    number_set,
    on_off,
    text_element,
    unless_empty,
    yes_no,
)
from virt.domain.memory import MemoryAccess


class TpmModel(StrEnum):
    TIS = "tpm-tis"
    CRB = "tpm-crb"  # of version 2.0 only


class TpmVersion(StrEnum):
    V1_2 = "1.2"
    V2_0 = "2.0"


class IommuModel(StrEnum):
    INTEL = "intel"
    VIRTIO = "virtio"


@dataclass(frozen=True, kw_only=True)
class TpmConfig(DeviceConfig):
    """A TPM that swtpm emulates; its state is encrypted when a secret of libvirt's is named.

        <tpm model="tpm-crb">
          <backend type="emulator" version="2.0">
            <encryption secret="6dd3e4a5-1d76-44ce-961f-f119f5aad935"/>
          </backend>
        </tpm>

    https://libvirt.org/formatdomain.html#tpm-device
    """

    model: TpmModel
    version: TpmVersion
    secret_uuid: str | None = None

    def to_element(self) -> etree._Element:
        encryption = unless_empty(element("encryption", secret=self.secret_uuid))
        backend = element("backend", [encryption], type="emulator", version=self.version)
        return element("tpm", [backend], model=self.model)


@dataclass(frozen=True, kw_only=True)
class IommuDriverConfig(Config):
    """What the IOMMU can do.

    <driver intremap="on" caching_mode="on" eim="on" iotlb="on" aw_bits="48"/>
    """

    interrupt_remapping: bool | None = None
    caching_mode: bool | None = None
    eim: bool | None = None
    iotlb: bool | None = None
    address_bits: int | None = None

    def to_element(self) -> etree._Element:
        return element(
            "driver",
            intremap=on_off(self.interrupt_remapping),
            caching_mode=on_off(self.caching_mode),
            eim=on_off(self.eim),
            iotlb=on_off(self.iotlb),
            aw_bits=self.address_bits,
        )


@dataclass(frozen=True, kw_only=True)
class IommuConfig(DeviceConfig):
    """An IOMMU in the guest: for more than 255 CPUs, or to pass devices on.

        <iommu model="intel">
          <driver …/>
        </iommu>

    https://libvirt.org/formatdomain.html#iommu-devices
    """

    model: IommuModel
    driver: IommuDriverConfig | None = None

    def to_element(self) -> etree._Element:
        return element("iommu", [element_of(self.driver)], model=self.model)


@dataclass(frozen=True, kw_only=True)
class DimmConfig(DeviceConfig):
    """A memory stick, to be plugged in while the guest runs. The domain needs `MaxMemoryConfig` and NUMA cells.

        <memory model="dimm" access="private" discard="yes">
          <source>
            <nodemask>0-1</nodemask>
            <pagesize unit="KiB">2048</pagesize>
          </source>
          <target>
            <size unit="KiB">524288</size>
            <node>0</node>
          </target>
          <alias name="ua-dimm0"/>
        </memory>

    https://libvirt.org/formatdomain.html#memory-devices
    """

    memory_mib: int
    numa_cell: int
    access: MemoryAccess | None = None
    discard: bool | None = None
    page_size_kib: int | None = None
    host_nodes: frozenset[int] | None = None
    alias: str | None = None

    def to_element(self) -> etree._Element:
        source = element(
            "source",
            [
                text_element("nodemask", number_set(self.host_nodes)),
                text_element("pagesize", self.page_size_kib, unit="KiB"),
            ],
        )
        target = element(
            "target",
            [text_element("size", self.memory_mib * 1024, unit="KiB"), text_element("node", self.numa_cell)],
        )
        return element(
            "memory",
            [unless_empty(source), target, unless_empty(element("alias", name=self.alias))],
            model="dimm",
            access=self.access,
            discard=yes_no(self.discard),
        )
