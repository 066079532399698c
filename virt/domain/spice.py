"""SPICE: a remote display with channels, compression and an agent in the guest."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, DeviceConfig, element, on_off, unless_empty, yes_no


class ChannelSecurity(StrEnum):
    """Whether a channel must be encrypted. Unsaid: as the viewer asks."""

    SECURE = "secure"
    INSECURE = "insecure"


class SpiceChannel(StrEnum):
    MAIN = "main"
    DISPLAY = "display"
    INPUTS = "inputs"
    CURSOR = "cursor"
    PLAYBACK = "playback"
    RECORD = "record"
    SMARTCARD = "smartcard"
    USBREDIR = "usbredir"


class ImageCompression(StrEnum):
    AUTO_GLZ = "auto_glz"
    AUTO_LZ = "auto_lz"
    QUIC = "quic"
    GLZ = "glz"
    LZ = "lz"
    OFF = "off"


class WanCompression(StrEnum):
    """Compression that pays on a slow line."""

    AUTO = "auto"
    NEVER = "never"
    ALWAYS = "always"


class StreamingMode(StrEnum):
    FILTER = "filter"
    ALL = "all"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class SpiceChannelConfig(Config):
    """What one channel asks.

    <channel name="main" mode="secure"/>
    """

    name: SpiceChannel
    security: ChannelSecurity

    def to_element(self) -> etree._Element:
        return element("channel", name=self.name, mode=self.security)


@dataclass(frozen=True, kw_only=True)
class SpiceConfig(DeviceConfig):
    """A SPICE server, on ports that libvirt picks when none is given.

        <graphics type="spice" port="5901" tlsPort="5902" autoport="no" listen="127.0.0.1" keymap="en-us"
            defaultMode="secure">
          <listen type="address" address="127.0.0.1"/>
          <channel …/>
          <image compression="auto_glz"/>
          <jpeg compression="auto"/>
          <zlib compression="auto"/>
          <playback compression="on"/>
          <streaming mode="filter"/>
        </graphics>

    https://libvirt.org/formatdomain.html#graphical-framebuffers
    """

    listen_address: str
    port: int | None = None
    tls_port: int | None = None
    keymap: str | None = None
    default_security: ChannelSecurity | None = None
    channels: tuple[SpiceChannelConfig, ...] = ()
    image_compression: ImageCompression | None = None
    jpeg_compression: WanCompression | None = None
    zlib_compression: WanCompression | None = None
    playback_compression: bool | None = None
    streaming: StreamingMode | None = None

    def to_element(self) -> etree._Element:
        return element(
            "graphics",
            [
                element("listen", type="address", address=self.listen_address),
                *(channel.to_element() for channel in self.channels),
                unless_empty(element("image", compression=self.image_compression)),
                unless_empty(element("jpeg", compression=self.jpeg_compression)),
                unless_empty(element("zlib", compression=self.zlib_compression)),
                unless_empty(element("playback", compression=on_off(self.playback_compression))),
                unless_empty(element("streaming", mode=self.streaming)),
            ],
            type="spice",
            port=self.port,
            tlsPort=self.tls_port,
            autoport=yes_no(self.port is None and self.tls_port is None),
            listen=self.listen_address,
            keymap=self.keymap,
            defaultMode=self.default_security,
        )
