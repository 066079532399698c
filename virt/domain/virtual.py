"""Devices that exist only in virtual machines or serve the host: random numbers, memory balloon, vsock, watchdog, panic."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, DeviceConfig, element, on_off, unless_empty, yes_no


class VirtioModel(StrEnum):
    """Which generations of virtio a device speaks."""

    VIRTIO = "virtio"  # as fits the slot
    TRANSITIONAL = "virtio-transitional"  # 0.9 and 1.0
    NON_TRANSITIONAL = "virtio-non-transitional"  # 1.0 only


class BalloonModel(StrEnum):
    VIRTIO = "virtio"
    TRANSITIONAL = "virtio-transitional"
    NON_TRANSITIONAL = "virtio-non-transitional"
    NONE = "none"  # keeps libvirt from adding one by itself


class WatchdogModel(StrEnum):
    I6300ESB = "i6300esb"
    IB700 = "ib700"


class WatchdogAction(StrEnum):
    """What becomes of a guest that no longer feeds its watchdog."""

    RESET = "reset"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    PAUSE = "pause"
    NONE = "none"
    DUMP = "dump"
    INJECT_NMI = "inject-nmi"


class PanicModel(StrEnum):
    ISA = "isa"
    HYPERV = "hyperv"


@dataclass(frozen=True, kw_only=True)
class RandomBackendConfig(Config):
    """A device of the host that gives random numbers.

    <backend model="random">/dev/urandom</backend>
    """

    path: str

    def to_element(self) -> etree._Element:
        return element("backend", model="random", text=self.path)


@dataclass(frozen=True, kw_only=True)
class EgdBackendConfig(Config):
    """A daemon that gives random numbers over TCP, in the protocol of the entropy gathering daemon.

    <backend model="egd" type="tcp">
      <source mode="connect" host="127.0.0.1" service="708"/>
      <protocol type="raw"/>
    </backend>
    """

    host: str
    port: int

    def to_element(self) -> etree._Element:
        source = element("source", mode="connect", host=self.host, service=self.port)
        return element("backend", [source, element("protocol", type="raw")], model="egd", type="tcp")


@dataclass(frozen=True, kw_only=True)
class RngConfig(DeviceConfig):
    """Random numbers for the guest, so that it need not wait for entropy when it boots.

        <rng model="virtio">
          <rate bytes="1024" period="1000"/>
          <backend model="random">/dev/urandom</backend>
          <driver iommu="on"/>
        </rng>

    https://libvirt.org/formatdomain.html#random-number-generator-device
    """

    backend: RandomBackendConfig | EgdBackendConfig
    model: VirtioModel = VirtioModel.VIRTIO
    rate_bytes: int | None = None
    rate_period_ms: int | None = None
    iommu: bool | None = None

    def to_element(self) -> etree._Element:
        rate = element("rate", bytes=self.rate_bytes, period=self.rate_period_ms)
        return element("rng", [unless_empty(rate), self.backend.to_element(), _driver(self.iommu)], model=self.model)


@dataclass(frozen=True, kw_only=True)
class BalloonConfig(DeviceConfig):
    """The memory balloon, also the source of the guest's memory figures.

        <memballoon model="virtio" autodeflate="on" freePageReporting="on">
          <stats period="10"/>
          <driver iommu="on"/>
        </memballoon>

    https://libvirt.org/formatdomain.html#memory-balloon-device (`freePageReporting` since 6.9.0)
    """

    model: BalloonModel
    auto_deflate: bool | None = None
    free_page_reporting: bool | None = None
    stats_period_s: int | None = None
    iommu: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "memballoon",
            [unless_empty(element("stats", period=self.stats_period_s)), _driver(self.iommu)],
            model=self.model,
            autodeflate=on_off(self.auto_deflate),
            freePageReporting=on_off(self.free_page_reporting),
        )


@dataclass(frozen=True, kw_only=True)
class VsockConfig(DeviceConfig):
    """Sockets between host and guest, without a network; `cid` is the guest's address, or libvirt picks one.

        <vsock model="virtio">
          <cid auto="no" address="3"/>
          <driver iommu="on"/>
        </vsock>

    https://libvirt.org/formatdomain.html#vsock
    """

    cid: int | None = None
    model: VirtioModel = VirtioModel.VIRTIO
    iommu: bool | None = None

    def to_element(self) -> etree._Element:
        cid = element("cid", auto=yes_no(self.cid is None), address=self.cid)
        return element("vsock", [cid, _driver(self.iommu)], model=self.model)


@dataclass(frozen=True, kw_only=True)
class WatchdogConfig(DeviceConfig):
    """A timer that the guest must feed.

        <watchdog model="i6300esb" action="reset"/>

    https://libvirt.org/formatdomain.html#watchdog-devices
    """

    model: WatchdogModel
    action: WatchdogAction

    def to_element(self) -> etree._Element:
        return element("watchdog", model=self.model, action=self.action)


@dataclass(frozen=True, kw_only=True)
class PanicConfig(DeviceConfig):
    """How a guest says that its kernel has crashed (`on_crash`).

        <panic model="isa"/>

    https://libvirt.org/formatdomain.html#panic-device
    """

    model: PanicModel

    def to_element(self) -> etree._Element:
        return element("panic", model=self.model)


def _driver(iommu: bool | None) -> etree._Element | None:
    # With an IOMMU, or encrypted memory, the device may not reach past what the guest shares with it.
    return unless_empty(element("driver", iommu=on_off(iommu)))
