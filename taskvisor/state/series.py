"""What was measured of hosts and instances, as short series: a capped list of packed samples for each.

A sample is a digest of the names of its metrics, and its numbers, to six digits: the names are kept once. With the four monitors
of ours, 30 samples take some 6 KiB of Redis for a host, and 3 KiB for an instance (measured: `python -m tests.bench.ticks`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.measured import Sample
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

log = structlog.get_logger(__name__)

DIGITS = 6
NAMES_LIMIT = 200
"""Further lists of names are not kept: there are as many as there are sets of monitors, and monitors that fail."""
KEEP_AT_LEAST_S = 3600
"""Series of what is measured no more are gone after so long, or after twice the time that they span."""

Numbers = list[float | None]


class Series:
    """The series of one store. `samples` are kept of each; `period_s` is how often one is added."""

    def __init__(self, client: "redis.Redis", keys: Keys, *, samples: int = 30, period_s: float = 60.0) -> None:
        self._client = client
        self._keys = keys
        self._samples = samples
        self._keep_s = max(KEEP_AT_LEAST_S, int(2 * samples * period_s))
        self._named: set[str] = set()

    def append(
        self,
        host: HostName,
        at: float,
        values: Mapping[str, float | None],
        guests: Mapping[InstanceId, Mapping[str, float | None]],
    ) -> None:
        """A sample of the host and one of each of these instances: one round trip, or two when metrics are new."""
        series = [(self._keys.series_of_host(host), values)]
        series += [(self._keys.series_of_instance(instance_id), found) for instance_id, found in guests.items()]
        self._keep_names(tuple(found) for _, found in series)
        with asking(f"write what was measured on {host}"), self._client.pipeline(transaction=False) as pipe:
            for key, found in series:
                pipe.lpush(key, _packed(at, found))
                pipe.ltrim(key, 0, self._samples - 1)
                pipe.expire(key, self._keep_s)
            pipe.execute()

    def list_of_host(self, host: HostName) -> tuple[Sample, ...]:
        """What is kept of the host, the latest first."""
        return self._list(self._keys.series_of_host(host))

    def list_of_instance(self, instance_id: InstanceId) -> tuple[Sample, ...]:
        """What is kept of the instance, the latest first."""
        return self._list(self._keys.series_of_instance(instance_id))

    def list_latest_of_hosts(self, hosts: Sequence[HostName]) -> Mapping[HostName, Sample]:
        """The latest sample of each of them that has one: one round trip."""
        found = self._latest([self._keys.series_of_host(host) for host in hosts])
        return {host: sample for host, sample in zip(hosts, found, strict=True) if sample is not None}

    def list_latest_of_instances(self, instances: Sequence[InstanceId]) -> Mapping[InstanceId, Sample]:
        """Likewise of instances."""
        found = self._latest([self._keys.series_of_instance(one) for one in instances])
        return {one: sample for one, sample in zip(instances, found, strict=True) if sample is not None}

    def _list(self, key: str) -> tuple[Sample, ...]:
        with asking("read what was measured"), self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._keys.series_names)
            pipe.lrange(key, 0, -1)
            names, texts = pipe.execute()
        return tuple(sample for text in texts if (sample := _unpacked(str(text), names)) is not None)

    def _latest(self, keys: Sequence[str]) -> list[Sample | None]:
        with asking("read what was measured last"), self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._keys.series_names)
            for key in keys:
                pipe.lindex(key, 0)
            names, *texts = pipe.execute()
        return [None if text is None else _unpacked(str(text), names) for text in texts]

    def _keep_names(self, lists: Iterable[tuple[str, ...]]) -> None:
        """Who reads a sample finds its names: they are kept before it is."""
        new = {digest: names for names in set(lists) if (digest := _digest(names)) not in self._named}
        if not new:
            return
        with asking("write the names of metrics"):
            if int(self._client.hlen(self._keys.series_names)) > NAMES_LIMIT:
                log.warning("names_of_metrics_dropped", limit=NAMES_LIMIT)
                self._client.delete(self._keys.series_names)
                self._named.clear()
            encoded = {digest: msgspec.json.encode(names).decode() for digest, names in new.items()}
            self._client.hset(self._keys.series_names, items=[part for pair in encoded.items() for part in pair])
        self._named |= new.keys()


def _digest(names: tuple[str, ...]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=6).hexdigest()


def _packed(at: float, values: Mapping[str, float | None]) -> str:
    numbers: Numbers = [None if value is None else float(f"{value:.{DIGITS}g}") for value in values.values()]
    shortened = [int(number) if number is not None and number.is_integer() else number for number in numbers]
    return _digest(tuple(values)) + msgspec.json.encode([round(at, 3), *shortened]).decode()


def _unpacked(text: str, names: Mapping[str, str]) -> Sample | None:
    """None when it is none of ours, or its names are lost: it will be pushed out in time."""
    digest, body = text[:12], text[12:]
    try:
        at, *numbers = msgspec.json.decode(body, type=Numbers)
        return Sample(
            at=float(at or 0.0),
            values=dict(zip(msgspec.json.decode(names[digest], type=list[str]), numbers, strict=True)),
        )
    except (msgspec.MsgspecError, ValueError, KeyError):
        return None
