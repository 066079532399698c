"""What can be asked of a guest's NICs: which card, how many queues, how much bandwidth."""

from dataclasses import dataclass

from taskvisor.model.errors import Refused
from virt.domain.interface import InterfaceModel
from virt.options.kinds import BOOLEAN, one_of, whole
from virt.options.option import AGREE, ONE_PLACE, Option

MOST_KIB_S = 4_294_967_295


@dataclass(frozen=True, kw_only=True)
class NicOptions:
    """Rates in KiB a second, bursts in KiB, of each NIC; inbound is what the guest receives."""

    model: InterfaceModel | None = None
    multiqueue: bool = False
    packed_ring: bool = False
    inbound_average: int | None = None
    inbound_peak: int | None = None
    inbound_burst: int | None = None
    outbound_average: int | None = None
    outbound_peak: int | None = None
    outbound_burst: int | None = None


def _rates() -> tuple[Option, ...]:
    effects = {
        "average": "KiB a second in the long run",
        "peak": "KiB a second, for a short time",
        "burst": "KiB at the peak's rate",
    }
    return tuple(
        Option(
            field=f"{way}_{rate}",
            flavor_key=f"quota:vif_{way}_{rate}",
            kind=whole(1, MOST_KIB_S),
            rule=ONE_PLACE,
            default="no limit",
            effect=f"The most of each NIC, {way}: {effects[rate]}.",
        )
        for way in ("inbound", "outbound")
        for rate in effects
    )


NIC_OPTIONS = (
    Option(
        field="model",
        image_key="hw_vif_model",
        kind=one_of(InterfaceModel),
        rule=ONE_PLACE,
        default="virtio",
        effect="The card that the guest sees.",
    ),
    Option(
        field="multiqueue",
        flavor_key="hw:vif_multiqueue_enabled",
        image_key="hw_vif_multiqueue_enabled",
        kind=BOOLEAN,
        rule=AGREE,
        default="no",
        effect="Each NIC has a queue for each of the guest's CPUs, at most 256.",
    ),
    Option(
        field="packed_ring",
        flavor_key="hw:virtio_packed_ring",
        image_key="hw_virtio_packed_ring",
        kind=BOOLEAN,
        rule=AGREE,
        default="no",
        effect="NICs and disks of virtio use packed rings, which cost less.",
    ),
    *_rates(),
)


def require_sense(options: NicOptions) -> None:
    """Refused when options of this theme contradict each other: a peak and a burst say how an average is exceeded."""
    for way in ("inbound", "outbound"):
        for rate in ("peak", "burst"):
            if getattr(options, f"{way}_{rate}") is not None and getattr(options, f"{way}_average") is None:
                raise Refused(f"quota:vif_{way}_{rate}: needs quota:vif_{way}_average; set it, or leave both out")
