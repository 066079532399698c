"""A token bucket in the words of the kernel's tbf queueing discipline (net/sched/sch_tbf.c, tc-tbf(8)): pure.

Rates are bytes a second, as they are on the wire from the Ethernet header on. The kernel keeps sizes of buckets as the time
that they take at their rate, in ticks of 64 ns (include/net/pkt_sched.h, PSCHED_SHIFT), in 32 bits: hence MOST_FILL_S.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TICK_NS = 64
NS_IN_S = 1_000_000_000
MOST_U32 = (1 << 32) - 1
MOST_FILL_S = MOST_U32 * TICK_NS // NS_IN_S
"""A bucket that takes longer to fill does not fit the kernel's 32 bits."""
PEAK_BURST_BYTES = 66 << 10
"""What may leave in one piece at the peak: the largest packet that the kernel makes of several, with its headers."""
LINKLAYER_ETHERNET = 1  # so the kernel calculates by itself and wants no table of rates (tc's, of old)

Parameters = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """`burst_bytes` may leave at once, at `peak_bytes_s` (None: at any rate), then `rate_bytes_s`. `queue_bytes` may wait,
    what is in the bucket included; what comes beyond is dropped.
    """

    rate_bytes_s: int
    burst_bytes: int
    queue_bytes: int
    peak_bytes_s: int | None = None


def parameters_for(bucket: Bucket) -> Parameters:
    """The bucket as struct tc_tbf_qopt (linux/pkt_sched.h), by pyroute2's names, without what is zero."""
    peak = bucket.peak_bytes_s or 0
    return {
        "rate": bucket.rate_bytes_s,
        "rate___reserved": LINKLAYER_ETHERNET,
        "buffer": _ticks(bucket.burst_bytes, bucket.rate_bytes_s),
        "limit": bucket.queue_bytes,
        **(
            {"peak": peak, "peak___reserved": LINKLAYER_ETHERNET, "mtu": _ticks(PEAK_BURST_BYTES, peak)} if peak else {}
        ),
    }


def parse_parameters(listed: Mapping[str, Any]) -> Parameters:
    """What the kernel lists, comparable with what `parameters_for` says."""
    names = ("rate", "rate___reserved", "buffer", "limit", "peak", "peak___reserved", "mtu")
    return {name: int(listed[name]) for name in names if listed[name]}


def _ticks(size_bytes: int, rate_bytes_s: int) -> int:
    return size_bytes * NS_IN_S // rate_bytes_s // TICK_NS
