"""What a limit of bandwidth means as token buckets, and which limits make no sense: pure.

As libvirt's <bandwidth>: `average` in the long run, up to `burst` at once, at `peak` if there is one.
"""

from net.links.token_bucket import MOST_FILL_S, MOST_U32, Bucket
from taskvisor.model.errors import Refused
from taskvisor.model.network import Bandwidth, NetworkKind, Qos

KIB = 1024
MOST_KIB_S = MOST_U32 // KIB
"""The kernel's tbf has 32 bits for bytes a second: 34 Gbit/s."""

DEFAULT_BURST_S = 0.05
LEAST_DEFAULT_BURST_BYTES = 128 * KIB
LEAST_BURST_S = 0.001  # smaller buckets overflow between two looks of a busy CPU: the average is not reached
FRAMING_BYTES = 64  # headers around the MTU's worth, tags included
WAITING_S = 0.05
LEAST_WAITING_BYTES = 128 * KIB


def require_sane(qos: Qos | None, kind: NetworkKind, what: str) -> None:
    """Refused, with field, value and rule, when a limit can't be had; `what` says whose it is."""
    if kind is NetworkKind.MACVTAP and qos not in (None, Qos()):
        raise Refused(
            f"{what}: a macvtap's directions are the other way round, and can't be limited; use another network"
        )
    for way in ("inbound", "outbound"):
        limit: Bandwidth | None = getattr(qos, way, None)
        if limit is not None:
            _require_sane(limit, f"{what}: {way}")


def bucket_for(limit: Bandwidth, *, mtu: int) -> Bucket:
    """The bucket of a sane limit, through which packets of that MTU pass.

    A burst that is not given is 50 ms' worth, and at least 128 KiB; one that no packet fits in is as large as a packet. 50 ms'
    worth, and at least 128 KiB, wait behind it: more would be delay without gain.
    """
    rate = limit.average_kib_s * KIB
    asked = max(LEAST_DEFAULT_BURST_BYTES, int(rate * DEFAULT_BURST_S))
    burst = max(
        asked if limit.burst_kib is None else limit.burst_kib * KIB, mtu + FRAMING_BYTES, int(rate * LEAST_BURST_S)
    )
    peak = limit.peak_kib_s if limit.peak_kib_s != limit.average_kib_s else None  # tbf wants a peak above its rate
    return Bucket(
        rate_bytes_s=rate,
        burst_bytes=burst,
        queue_bytes=min(MOST_U32, burst + max(LEAST_WAITING_BYTES, int(rate * WAITING_S))),
        peak_bytes_s=None if peak is None else peak * KIB,
    )


def _require_sane(limit: Bandwidth, what: str) -> None:
    average, peak, burst = limit.average_kib_s, limit.peak_kib_s, limit.burst_kib
    _require(1 <= average <= MOST_KIB_S, f"{what} average {average} KiB/s: must be 1 to {MOST_KIB_S}")
    if peak is not None:
        _require(
            average <= peak <= MOST_KIB_S,
            f"{what} peak {peak} KiB/s: must be at least the average, {average}, and at most {MOST_KIB_S}",
        )
    if burst is not None:
        most = min(MOST_KIB_S, average * MOST_FILL_S)
        _require(
            1 <= burst <= most, f"{what} burst {burst} KiB: must be 1 to {most} with an average of {average} KiB/s"
        )


def _require(is_so: bool, sentence: str) -> None:
    if not is_so:
        raise Refused(sentence)
