"""Every option of displays, video cards and input devices."""

from collections.abc import Mapping
from dataclasses import replace

from tests.virt.domain.bases import PC, with_devices
from virt.domain.character import ChannelConfig
from virt.domain.character_backend import (
    SpiceAgentBackend,
)
from virt.domain.controller import (
    UsbControllerConfig,
    UsbModel,
)
from virt.domain.display import (
    InputBus,
    InputConfig,
    InputType,
    VideoConfig,
    VideoModel,
    VncConfig,
    VncSocketConfig,
)
from virt.domain.domain import DomainConfig
from virt.domain.spice import (
    ChannelSecurity,
    ImageCompression,
    SpiceChannel,
    SpiceChannelConfig,
    SpiceConfig,
    StreamingMode,
    WanCompression,
)


def display_cases() -> Mapping[str, DomainConfig]:
    """Each by the name of its golden file."""
    return {**_vnc_cases(), **_spice_cases(), **_input_cases()}


def _vnc_cases() -> dict[str, DomainConfig]:
    qxl = VideoConfig(model=VideoModel.QXL, ram_kib=65536, vram_kib=32768, vga_memory_kib=16384, heads=2, primary=True)
    return {
        "vnc_at_a_port": with_devices(
            PC,
            VncConfig(listen_address="127.0.0.2", port=5901, websocket_port=5700, keymap="en-us"),
            VideoConfig(model=VideoModel.VGA, vram_kib=16384),
        ),
        "vnc_at_a_socket": with_devices(
            PC, VncSocketConfig(path="/run/vnc.sock", keymap="de"), VideoConfig(model=VideoModel.CIRRUS)
        ),
        "vnc_at_another_socket": with_devices(
            PC, VncSocketConfig(path="/run/other.sock"), VideoConfig(model=VideoModel.VMVGA)
        ),
        "video_qxl": with_devices(PC, qxl),
        "video_virtio": with_devices(
            PC, VideoConfig(model=VideoModel.VIRTIO, heads=1, acceleration_3d=False, iommu=True)
        ),
        "video_3d": with_devices(PC, VideoConfig(model=VideoModel.VIRTIO, acceleration_3d=True, iommu=False)),
        "video_bochs": with_devices(PC, VideoConfig(model=VideoModel.BOCHS)),
        "video_ramfb": with_devices(PC, VideoConfig(model=VideoModel.RAMFB)),
        "video_gop": with_devices(PC, VideoConfig(model=VideoModel.GOP)),
        "video_none": with_devices(PC, VideoConfig(model=VideoModel.NONE)),
    }


def _spice_cases() -> dict[str, DomainConfig]:
    plain, secure = ChannelSecurity.INSECURE, ChannelSecurity.SECURE
    local = SpiceConfig(
        listen_address="127.0.0.1",
        port=5901,
        keymap="fr",
        default_security=plain,
        channels=tuple(SpiceChannelConfig(name=name, security=plain) for name in SpiceChannel),
        image_compression=ImageCompression.AUTO_GLZ,
        jpeg_compression=WanCompression.AUTO,
        zlib_compression=WanCompression.AUTO,
        playback_compression=True,
        streaming=StreamingMode.FILTER,
    )
    encrypted = SpiceConfig(
        listen_address="127.0.0.1",
        tls_port=5902,
        default_security=secure,
        channels=(SpiceChannelConfig(name=SpiceChannel.INPUTS, security=secure),),
    )
    slow = SpiceConfig(
        listen_address="127.0.0.2",
        jpeg_compression=WanCompression.ALWAYS,
        zlib_compression=WanCompression.ALWAYS,
        streaming=StreamingMode.ALL,
        playback_compression=False,
    )
    fast = SpiceConfig(
        listen_address="127.0.0.1",
        jpeg_compression=WanCompression.NEVER,
        zlib_compression=WanCompression.NEVER,
        streaming=StreamingMode.OFF,
    )
    agent = ChannelConfig(backend=SpiceAgentBackend(), name="com.redhat.spice.0")
    others = (choice for choice in ImageCompression if choice is not ImageCompression.AUTO_GLZ)
    return {
        "spice": with_devices(PC, agent, local, VideoConfig(model=VideoModel.QXL)),
        "spice_encrypted": with_devices(PC, encrypted),
        "spice_on_a_fast_line": with_devices(PC, fast),
        **{
            f"spice_compressing_{choice}": with_devices(PC, replace(slow, image_compression=choice))
            for choice in others
        },
    }


def _input_cases() -> dict[str, DomainConfig]:
    return {
        "inputs": with_devices(
            PC,
            UsbControllerConfig(index=0, model=UsbModel.PIIX3_UHCI),
            InputConfig(type=InputType.TABLET, bus=InputBus.USB),
            InputConfig(type=InputType.TABLET, bus=InputBus.VIRTIO),
            InputConfig(type=InputType.MOUSE, bus=InputBus.PS2),
            InputConfig(type=InputType.KEYBOARD, bus=InputBus.PS2),
        )
    }
