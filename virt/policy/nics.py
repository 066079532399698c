"""The guest's NICs."""

from collections.abc import Iterator, Sequence

from taskvisor.model.errors import Refused
from taskvisor.model.plan import VifPlan
from virt.domain.connection import TapConnection
from virt.domain.interface import (
    BandwidthConfig,
    InterfaceConfig,
    InterfaceDriverConfig,
    InterfaceModel,
    RateLimitConfig,
)
from virt.options import GuestOptions
from virt.options.nic import NicOptions
from virt.policy.storage import iommu_for


def nics_for(vifs: Sequence[VifPlan], options: GuestOptions, vcpus: int) -> Iterator[InterfaceConfig]:
    """Each on its TAP. Refused when more queues are asked for than the TAP was planned with, or the card has none."""
    model = options.nic.model or InterfaceModel.VIRTIO
    for vif in vifs:
        yield InterfaceConfig(
            connection=TapConnection(tap=vif.tap),
            mac=vif.mac,
            model=model,
            driver=_driver_for(vif, options, model, vcpus),
            mtu=vif.mtu,
            bandwidth=_bandwidth_for(options.nic),
        )


def _driver_for(vif: VifPlan, options: GuestOptions, model: InterfaceModel, vcpus: int) -> InterfaceDriverConfig | None:
    if model is not InterfaceModel.VIRTIO:
        if options.nic.multiqueue:
            raise Refused(f"hw:vif_multiqueue_enabled: a card of model {model} has one queue; use hw_vif_model=virtio")
        return None
    if options.nic.multiqueue and vcpus > 1 and vif.queues == 1:
        raise Refused("hw:vif_multiqueue_enabled: the NICs that this host plugs have one queue; leave it out")
    driver = InterfaceDriverConfig(
        # No backend's name: libvirt takes vhost where the host has it, and QEMU serves as many queues where it has not.
        queues=vif.queues if vif.queues > 1 else None,
        iommu=iommu_for(options),
        packed=True if options.nic.packed_ring else None,
    )
    return None if driver == InterfaceDriverConfig() else driver


def _bandwidth_for(wants: NicOptions) -> BandwidthConfig | None:
    inbound = _rate_for(wants.inbound_average, wants.inbound_peak, wants.inbound_burst)
    outbound = _rate_for(wants.outbound_average, wants.outbound_peak, wants.outbound_burst)
    return None if inbound is None and outbound is None else BandwidthConfig(inbound=inbound, outbound=outbound)


def _rate_for(average: int | None, peak: int | None, burst: int | None) -> RateLimitConfig | None:
    return None if average is None else RateLimitConfig(average_kib_s=average, peak_kib_s=peak, burst_kib=burst)
