"""What a person sees: VNC and the video card."""

from dataclasses import dataclass

from lxml import etree

from virt.domain.config import DeviceConfig, element


@dataclass(frozen=True, kw_only=True)
class VncConfig(DeviceConfig):
    """A VNC server on a port that libvirt picks.

        <graphics type="vnc" autoport="yes">
          <listen type="address" address="127.0.0.1"/>
        </graphics>

    https://libvirt.org/formatdomain.html#graphical-framebuffers
    """

    listen_address: str

    def to_element(self) -> etree._Element:
        return element(
            "graphics",
            [element("listen", type="address", address=self.listen_address)],
            type="vnc",
            autoport="yes",
        )


@dataclass(frozen=True, kw_only=True)
class VideoConfig(DeviceConfig):
    """The video card.

        <video>
          <model type="vga"/>
        </video>

    https://libvirt.org/formatdomain.html#video-devices
    """

    model: str

    def to_element(self) -> etree._Element:
        return element("video", [element("model", type=self.model)])
