"""What limits come to, and which are refused: pure."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.bandwidth import MOST_KIB_S, bucket_for, require_sane
from net.links.token_bucket import MOST_FILL_S, MOST_U32, parameters_for, parse_parameters
from net.plan import vif_plan_for
from taskvisor.model.errors import Refused
from taskvisor.model.network import Bandwidth, NetworkKind, Qos
from tests.net.plans import network, port

KIB = 1024
LISTED = dict.fromkeys(("rate", "rate___reserved", "buffer", "limit", "peak", "peak___reserved", "mtu"), 0)


def test_a_limit_is_a_bucket_of_bytes() -> None:
    bucket = bucket_for(Bandwidth(average_kib_s=1000, peak_kib_s=4000, burst_kib=256), mtu=1500)
    assert (bucket.rate_bytes_s, bucket.peak_bytes_s, bucket.burst_bytes) == (1000 * KIB, 4000 * KIB, 256 * KIB)
    assert bucket.queue_bytes > bucket.burst_bytes


def test_a_bucket_holds_a_packet_however_small_it_was_asked_for() -> None:
    assert bucket_for(Bandwidth(average_kib_s=1, burst_kib=1), mtu=9000).burst_bytes >= 9018


def test_a_peak_that_is_the_average_is_none() -> None:
    assert bucket_for(Bandwidth(average_kib_s=7, peak_kib_s=7), mtu=1500).peak_bytes_s is None


@given(
    average=st.integers(1, MOST_KIB_S),
    more=st.none() | st.integers(0, MOST_KIB_S),
    burst=st.none() | st.integers(1, MOST_KIB_S),
    mtu=st.integers(68, 65521),
)
def test_every_sane_limit_fits_the_kernels_32_bits(average: int, more: int | None, burst: int | None, mtu: int) -> None:
    peak = None if more is None else min(MOST_KIB_S, average + more)
    limit = Bandwidth(
        average_kib_s=average,
        peak_kib_s=peak,
        burst_kib=None if burst is None else min(burst, average * MOST_FILL_S),
    )
    require_sane(Qos(inbound=limit), NetworkKind.NAT, "port")
    parameters = parameters_for(bucket_for(limit, mtu=mtu))
    assert all(0 < value <= MOST_U32 for value in parameters.values())
    assert parse_parameters(LISTED | dict(parameters)) == parameters


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (Bandwidth(average_kib_s=0), "average 0 KiB/s: must be 1 to 4194303"),
        (Bandwidth(average_kib_s=MOST_KIB_S + 1), "average 4194304 KiB/s: must be 1 to"),
        (Bandwidth(average_kib_s=9, peak_kib_s=8), "peak 8 KiB/s: must be at least the average, 9"),
        (Bandwidth(average_kib_s=9, peak_kib_s=MOST_KIB_S + 1), "peak 4194304 KiB/s: must be .* at most"),
        (Bandwidth(average_kib_s=9, burst_kib=0), "burst 0 KiB: must be 1 to"),
        (
            Bandwidth(average_kib_s=1, burst_kib=MOST_FILL_S + 1),
            f"burst 275 KiB: must be 1 to {MOST_FILL_S} with",
        ),
    ],
)
@pytest.mark.parametrize("way", ["inbound", "outbound"])
def test_a_limit_that_cannot_be_had_is_refused_before_a_link_is_touched(
    limit: Bandwidth, reason: str, way: str
) -> None:
    on = network()
    nic = replace(port(0, on), qos=replace(Qos(), **{way: limit}))
    with pytest.raises(Refused, match=f"the limits of port {nic.id}: {way} {reason}"):
        vif_plan_for(nic, on, hostname="web-0")


def test_a_macvtap_cannot_be_limited() -> None:
    on = replace(network(), kind=NetworkKind.MACVTAP, physical="lan")
    assert vif_plan_for(replace(port(0, on), qos=Qos()), on, hostname="web-0").qos == Qos()
    with pytest.raises(Refused, match="macvtap's directions"):
        vif_plan_for(replace(port(0, on), qos=Qos(inbound=Bandwidth(average_kib_s=9))), on, hostname="web-0")
