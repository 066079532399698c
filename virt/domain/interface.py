"""NICs of the guest."""

from dataclasses import dataclass

from lxml import etree

from virt.domain.config import DeviceConfig, element


@dataclass(frozen=True, kw_only=True)
class TapInterfaceConfig(DeviceConfig):
    """A NIC on a TAP that is there already: libvirt opens it, and neither makes, changes nor removes it.

        <interface type="ethernet">
          <mac address="52:54:00:aa:bb:cc"/>
          <target dev="tap16cd9b2c-ad" managed="no"/>
          <model type="virtio"/>
          <mtu size="1450"/>
        </interface>

    https://libvirt.org/formatdomain.html#generic-ethernet-connection (`managed` since 5.7.0)
    """

    mac: str
    tap: str
    model: str
    mtu: int | None = None

    def to_element(self) -> etree._Element:
        return element(
            "interface",
            [
                element("mac", address=self.mac),
                element("target", dev=self.tap, managed="no"),
                element("model", type=self.model),
                element("mtu", size=self.mtu) if self.mtu is not None else None,
            ],
            type="ethernet",
        )
