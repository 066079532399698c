"""Devices that exist only in virtual machines or serve the host: random numbers, memory balloon, bus controllers."""

from dataclasses import dataclass

from lxml import etree

from virt.domain.config import DeviceConfig, element


@dataclass(frozen=True, kw_only=True)
class RngConfig(DeviceConfig):
    """Random numbers for the guest, so that it need not wait for entropy when it boots.

        <rng model="virtio">
          <backend model="random">/dev/urandom</backend>
        </rng>

    https://libvirt.org/formatdomain.html#random-number-generator-device
    """

    model: str
    source: str

    def to_element(self) -> etree._Element:
        return element("rng", [element("backend", model="random", text=self.source)], model=self.model)


@dataclass(frozen=True, kw_only=True)
class BalloonConfig(DeviceConfig):
    """The memory balloon, also the source of the guest's memory figures.

        <memballoon model="virtio" autodeflate="on" freePageReporting="on">
          <stats period="10"/>
        </memballoon>

    https://libvirt.org/formatdomain.html#memory-balloon-device (`freePageReporting` since 6.9.0)
    """

    model: str
    auto_deflate: str | None = None
    free_page_reporting: str | None = None
    stats_period_s: int | None = None

    def to_element(self) -> etree._Element:
        return element(
            "memballoon",
            [element("stats", period=self.stats_period_s) if self.stats_period_s is not None else None],
            model=self.model,
            autodeflate=self.auto_deflate,
            freePageReporting=self.free_page_reporting,
        )


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(DeviceConfig):
    """A bus controller; `model="none"` keeps libvirt from adding one by itself.

        <controller type="usb" index="0" model="none"/>

    https://libvirt.org/formatdomain.html#controllers
    """

    type: str
    index: int
    model: str

    def to_element(self) -> etree._Element:
        return element("controller", type=self.type, index=self.index, model=self.model)
