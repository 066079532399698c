"""What callers may ask of one NIC beyond its network: addresses of both families, who may reach it, and how fast. Validated here,
and frozen after.
"""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from taskvisor.model.network import AddressPair, Bandwidth, Qos

QUEUES_LIMIT = 256
"""Of one TAP (MAX_TAP_QUEUES of the kernel's drivers/net/tun.c)."""
KIB_S_LIMIT = 1 << 32
PAIRS_LIMIT = 32
GROUPS_LIMIT = 16


def _ipv6(address: str) -> str:
    try:
        return str(ipaddress.IPv6Address(address))
    except ValueError:
        raise ValueError("must be an IPv6 address, like fd00:152::7") from None


def _sender(address: str) -> str:
    try:
        network = ipaddress.ip_network(address)
    except ValueError:
        raise ValueError("must be an address or a network, like 10.152.0.7 or 10.152.8.0/24") from None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


Ipv6 = Annotated[str, AfterValidator(_ipv6)]
SenderAddress = Annotated[str, AfterValidator(_sender)]
KibPerSecond = Annotated[int, Field(ge=1, le=KIB_S_LIMIT)]


class NicPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BandwidthSpec(NicPart):
    """A limit of one direction, in libvirt's units."""

    average_kib_s: KibPerSecond
    peak_kib_s: KibPerSecond | None = None
    burst_kib: KibPerSecond | None = None

    @model_validator(mode="after")
    def _peak_is_higher(self) -> "BandwidthSpec":
        if self.peak_kib_s is not None and self.peak_kib_s < self.average_kib_s:
            raise ValueError(f"peak_kib_s must be at least average_kib_s ({self.average_kib_s}), not {self.peak_kib_s}")
        return self

    def bandwidth(self) -> Bandwidth:
        return Bandwidth(average_kib_s=self.average_kib_s, peak_kib_s=self.peak_kib_s, burst_kib=self.burst_kib)


class QosSpec(NicPart):
    """As the guest sees it: `inbound` is what it receives."""

    inbound: BandwidthSpec | None = None
    outbound: BandwidthSpec | None = None

    def qos(self) -> Qos | None:
        """None where nothing is limited."""
        if self.inbound is None and self.outbound is None:
            return None
        return Qos(
            inbound=None if self.inbound is None else self.inbound.bandwidth(),
            outbound=None if self.outbound is None else self.outbound.bandwidth(),
        )


class AddressPairSpec(NicPart):
    """Another sender that the NIC may speak as."""

    address: SenderAddress
    mac: Annotated[str, Field(pattern=r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$")] | None = None

    def pair(self) -> AddressPair:
        return AddressPair(address=self.address, mac=self.mac)
