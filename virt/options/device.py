"""What can be asked of a guest's other devices: screen, pointer, serial ports, watchdog, random numbers, channels, PCI."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.errors import Refused
from virt.domain.board_devices import IommuModel
from virt.domain.display import InputBus, VideoModel
from virt.options.kinds import BOOLEAN, PCI_REQUESTS, PciRequest, one_of, whole
from virt.options.option import AGREE, FLAVOR_BOUNDS, IMAGE_FIRST, ONE_PLACE, Given, Option, Rule, conflict

MOST_SERIAL_PORTS = 4
MOST_VIDEO_MIB = 1024


class WatchdogChoice(StrEnum):
    """What becomes of a guest that does not feed its watchdog."""

    DISABLED = "disabled"  # it has none
    NONE = "none"  # nothing
    POWEROFF = "poweroff"
    RESET = "reset"
    PAUSE = "pause"


class PointerModel(StrEnum):
    USB_TABLET = "usbtablet"
    PS2_MOUSE = "ps2mouse"


class RngModel(StrEnum):
    VIRTIO = "virtio"


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """What is None is the host's choice."""

    watchdog: WatchdogChoice = WatchdogChoice.DISABLED
    rng_allowed: bool = True
    rng_model: RngModel | None = None
    rng_bytes: int | None = None
    rng_period_ms: int | None = None
    serial_ports: int = 1
    video_model: VideoModel | None = None
    video_ram_mib: int | None = None
    pointer: PointerModel | None = None
    input_bus: InputBus | None = None
    guest_agent: bool | None = None
    quiesce: bool = False
    vsock: bool = False
    iommu: IommuModel | None = None
    pci: tuple[PciRequest, ...] = ()


def _video_ram(flavor: Given | None, image: Given | None) -> object | None:
    # As Nova: what the flavor does not allow is not to be had, and a flavor that says nothing allows none.
    if image is None or image.value == 0:
        return None
    if flavor is None:
        raise Refused(f"the image says {image}: the flavor allows none; set hw_video:ram_max_mb there")
    if not isinstance(image.value, int) or not isinstance(flavor.value, int) or image.value > flavor.value:
        raise conflict(flavor, image, "the image must not ask for more than the flavor allows")
    return image.value


VIDEO_RAM_RULE = Rule(words="the image, which must not exceed the flavor (none by default)", choose=_video_ram)

DEVICE_OPTIONS = (
    Option(
        field="watchdog",
        flavor_key="hw:watchdog_action",
        image_key="hw_watchdog_action",
        kind=one_of(WatchdogChoice),
        rule=IMAGE_FIRST,
        default="disabled",
        effect="The guest has a watchdog (i6300esb); what happens when it is not fed.",
    ),
    Option(
        field="rng_allowed",
        flavor_key="hw_rng:allowed",
        kind=BOOLEAN,
        rule=ONE_PLACE,
        default="yes",
        effect="Whether the guest may have a device for random numbers.",
    ),
    Option(
        field="rng_model",
        image_key="hw_rng_model",
        kind=one_of(RngModel),
        rule=ONE_PLACE,
        default="virtio",
        effect="The device for random numbers.",
    ),
    Option(
        field="rng_bytes",
        flavor_key="hw_rng:rate_bytes",
        kind=whole(1, 1 << 31),
        rule=ONE_PLACE,
        default="no limit",
        effect="How many bytes of random numbers the guest gets in a period.",
    ),
    Option(
        field="rng_period_ms",
        flavor_key="hw_rng:rate_period",
        kind=whole(1, 1 << 31),
        rule=ONE_PLACE,
        default="1000",
        effect="That period, in ms.",
    ),
    Option(
        field="serial_ports",
        flavor_key="hw:serial_port_count",
        image_key="hw_serial_port_count",
        kind=whole(1, MOST_SERIAL_PORTS),
        rule=FLAVOR_BOUNDS,
        default="1",
        effect="How many serial ports the guest has; the first is its console and is logged.",
    ),
    Option(
        field="video_model",
        image_key="hw_video_model",
        kind=one_of(VideoModel),
        rule=ONE_PLACE,
        default="the host's (vga)",
        effect="The graphics card; none: the guest has neither card nor screen.",
    ),
    Option(
        field="video_ram_mib",
        flavor_key="hw_video:ram_max_mb",
        image_key="hw_video_ram",
        kind=whole(0, MOST_VIDEO_MIB),
        rule=VIDEO_RAM_RULE,
        default="the card's",
        effect="The graphics card's memory in MiB: asked by the image, allowed by the flavor.",
    ),
    Option(
        field="pointer",
        image_key="hw_pointer_model",
        kind=one_of(PointerModel),
        rule=ONE_PLACE,
        default="the host's (ps2mouse)",
        effect="How the screen's pointer moves: with a tablet it stays under the viewer's.",
    ),
    Option(
        field="input_bus",
        image_key="hw_input_bus",
        kind=one_of(InputBus),
        rule=ONE_PLACE,
        default="the pointer's",
        effect="The bus of a tablet and a keyboard.",
    ),
    Option(
        field="guest_agent",
        image_key="hw_qemu_guest_agent",
        kind=BOOLEAN,
        rule=ONE_PLACE,
        default="yes",
        effect="The guest has a channel for QEMU's agent.",
    ),
    Option(
        field="quiesce",
        image_key="os_require_quiesce",
        kind=BOOLEAN,
        rule=ONE_PLACE,
        default="no",
        effect="A snapshot without quiescing the guest's file systems is no snapshot; needs the agent's channel.",
    ),
    Option(
        field="vsock",
        flavor_key="hw:vsock",
        image_key="hw_vsock",
        kind=BOOLEAN,
        rule=AGREE,
        default="no",
        effect="Ours. Sockets between host and guest without a network.",
    ),
    Option(
        field="iommu",
        flavor_key="hw:viommu_model",
        image_key="hw_viommu_model",
        kind=one_of(IommuModel),
        rule=AGREE,
        default="none",
        effect="The guest has an IOMMU; needs q35.",
    ),
    Option(
        field="pci",
        flavor_key="pci_passthrough:alias",
        kind=PCI_REQUESTS,
        rule=ONE_PLACE,
        default="none",
        effect="Devices of the host that are given to the guest, by the host's aliases.",
    ),
)


def require_sense(options: DeviceOptions) -> None:
    """Refused when options of this theme contradict each other."""
    if options.quiesce and options.guest_agent is False:
        raise Refused("os_require_quiesce: needs the agent, and hw_qemu_guest_agent says no; change one of them")
    if options.rng_model is not None and not options.rng_allowed:
        raise Refused(f"hw_rng_model={options.rng_model}: the flavor says hw_rng:allowed=no; change one of them")
    if options.rng_period_ms is not None and options.rng_bytes is None:
        raise Refused("hw_rng:rate_period: needs hw_rng:rate_bytes; set it, or leave both out")
    if options.pointer is PointerModel.USB_TABLET and options.input_bus is InputBus.PS2:
        raise Refused("hw_pointer_model=usbtablet: there is no tablet on hw_input_bus=ps2; use usb or virtio")
