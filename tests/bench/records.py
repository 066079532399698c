"""Part D: what the records cost: an audit of a thousand instances, a list of ten thousand, and what each takes in Redis.

`python -m tests.bench.records` measures this part alone. No worker runs: one guest is built through the door, its steps run
by hand on a simulated host, so that every record is as the product writes it. The others, and what the host has of them, are
copies of it under names, ids and addresses of their own: the audit finds nothing amiss with them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from tasks.verify import host_seen
from taskvisor.compute.audit import findings_for
from taskvisor.model.ids import HostName, InstanceId, OperationId, instance_id_for, mac_for, port_id_for
from taskvisor.model.observed import HostSeen
from taskvisor.model.records import Instance, Inventory
from taskvisor.state.codec import encode
from taskvisor.state.survey import Survey
from tests.bench.report import Row, milliseconds, p50, progress, table
from tests.fixtures.machine import ROOT
from tests.fixtures.redis_servers import RedisServer
from tests.support.fleet import KEYS, Fleet
from tests.support.records import inventory

if TYPE_CHECKING:
    import redis
    from redis.client import Pipeline

AUDITED = 1_000
LISTED = 10_000
PAGE = 100
ROUNDS = 5
KEEP_S = 3600
COUNTS = (1, 100, 1_000)
PAGE_AIM_S = 0.100
H1 = HostName("h1")
PYTHON_S = "import taskvisor.cli.app, taskvisor.cli.listing"
"""What a command does before it begins."""


@dataclass(frozen=True, kw_only=True)
class RecordCosts:
    """Times are medians of `ROUNDS`; bytes are of all keys, for each instance or host, by how many there were."""

    instance_bytes: Mapping[int, float]
    host_bytes: Mapping[int, float]
    survey_s: float
    judge_s: float
    page_s: float
    last_page_s: float
    list_s: float
    list_command_s: float
    bare_command_s: float

    @property
    def audit_s(self) -> float:
        """The records, the records again, and the judgement; without the hosts' looks, which are theirs and at once."""
        return 2 * self.survey_s + self.judge_s


def measure_records() -> RecordCosts:
    """A RuntimeError when a build fails."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    progress(f"D: {AUDITED} instances on a simulated host")
    with _open_fleet() as fleet:
        instance_bytes = _instance_bytes(fleet)
        progress(f"D: an audit of {AUDITED} instances")
        survey_s, judge_s = _audit(fleet)
        progress(f"D: a list of {LISTED} instances")
        _fill(fleet, LISTED)
        catalog, last = fleet.store.catalog, f"copy-{LISTED - PAGE:06}"
        page_s = _median(lambda: catalog.page_instances(after="", limit=PAGE))
        last_page_s = _median(lambda: catalog.page_instances(after=last, limit=PAGE))
        list_s = _median(catalog.list_instances)
        command = ("-m", "taskvisor.cli", "list", "--limit", str(PAGE))
        list_command_s = _median(lambda: _run(fleet, *command))
        bare_command_s = _median(lambda: _run(fleet, "-c", PYTHON_S))
    progress("D: hosts")
    return RecordCosts(
        instance_bytes=instance_bytes,
        host_bytes=_host_bytes(),
        survey_s=survey_s,
        judge_s=judge_s,
        page_s=page_s,
        last_page_s=last_page_s,
        list_s=list_s,
        list_command_s=list_command_s,
        bare_command_s=bare_command_s,
    )


def table_of_records(costs: RecordCosts) -> str:
    rows = [
        Row(what=f"verify of {AUDITED} instances", value=milliseconds(costs.audit_s)),
        Row(what="  one reading of the records, of two", value=milliseconds(costs.survey_s)),
        Row(what="  the judgement", value=milliseconds(costs.judge_s)),
        Row(
            what=f"first page of {PAGE} of {LISTED} instances",
            value=milliseconds(costs.page_s),
            aim=f"at most {milliseconds(PAGE_AIM_S)}",
            met=costs.page_s <= PAGE_AIM_S,
        ),
        Row(what="  the last page", value=milliseconds(costs.last_page_s)),
        Row(what="  all of them at once", value=milliseconds(costs.list_s)),
        Row(
            what="  the command `list --limit`, start and end of Python and all",
            value=milliseconds(costs.list_command_s),
        ),
        Row(what="  of which before it does anything", value=milliseconds(costs.bare_command_s)),
        *(
            Row(what=f"memory in Redis for each of {count} {what}", value=f"{each:.0f} B")
            for what, found in (("instances", costs.instance_bytes), ("hosts", costs.host_bytes))
            for count, each in found.items()
        ),
    ]
    return table("D. The records: no worker, one simulated host", rows)


@contextmanager
def _open_fleet() -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="tvb-", dir="/dev/shm") as directory:
        root = Path(directory)
        server = RedisServer(root / "redis")
        server.start()
        try:
            fleet = Fleet(server.url(), root / "hosts", memory_mib={"h1": 1 << 24})
            try:
                _make_room(fleet)
                yield fleet
            finally:
                fleet.close()
        finally:
            server.stop()


def _make_room(fleet: Fleet) -> None:
    """The simulated host has few CPUs."""
    fleet.store.hosts.write_inventory(H1, inventory(vcpus=500_000, memory_mib=1 << 24, disk_gib=1 << 24))


def _instance_bytes(fleet: Fleet) -> dict[int, float]:
    empty = _bytes(fleet.client)
    operation = fleet.build("guest-000000")
    if operation.failure is not None:
        raise RuntimeError(f"a build failed: {operation.failure}")
    found: dict[int, float] = {1: _bytes(fleet.client) - empty}
    model, kept = fleet.instance("guest-000000"), _texts(fleet.client)
    for before, count in pairwise(COUNTS):
        for number in range(before, count):
            _copy(fleet.client, kept, _other_names(model, number))
        found[count] = (_bytes(fleet.client) - empty) / count
    return found


def _other_names(model: Instance, number: int) -> dict[str, str]:
    """What is the guest's alone, each with what the copy of that number has in its place."""
    (port,) = model.ports
    copy_id = instance_id_for(OperationId(f"build-guest-{number:06}"))
    copy_port = port_id_for(copy_id, 0)
    address = ".".join((*port.address.split(".")[:2], str(number // 250 + 1), str(number % 250 + 2)))
    return {
        "guest-000000": f"guest-{number:06}",
        model.id: copy_id,
        port.id: copy_port,
        port.mac: mac_for(copy_port),
        f'"{port.address}"': f'"{address}"',
        port.address: address,
    }


def _replaced(text: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def _texts(client: "redis.Redis") -> dict[str, object]:
    """Every string, hash, set and sorted set of ours, whole."""
    readers: dict[str, Callable[[str], object]] = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: {str(member): score for member, score in client.zscan_iter(key)},
    }
    keys = (str(key) for key in client.scan_iter(f"{KEYS.prefix}*", count=1000))
    return {key: readers[kind](key) for key in keys if (kind := str(client.type(key))) in readers}


def _copy(client: "redis.Redis", kept: Mapping[str, object], names: Mapping[str, str]) -> None:
    """Whatever bears one of these names is there once more, under the others; what a claim takes is taken once more."""
    with client.pipeline(transaction=False) as pipe:
        for key, content in kept.items():
            other = _replaced(key, names)
            if isinstance(content, str) and other != key:
                pipe.set(other, _replaced(content, names))
            elif isinstance(content, set):
                pipe.sadd(other, *(_replaced(member, names) for member in content))
            elif isinstance(content, dict) and key == KEYS.used(H1):
                for kind, amount in content.items():
                    pipe.hincrby(key, kind, int(amount))
            elif isinstance(content, dict) and all(isinstance(one, float) for one in content.values()):
                pipe.zadd(other, {_replaced(member, names): score for member, score in content.items()})
            elif isinstance(content, dict):
                _copy_hash(pipe, other, content, names, is_new=other != key)
        for key in kept:
            if key.startswith(KEYS.operation("")) and _replaced(key, names) != key:
                pipe.expire(_replaced(key, names), KEEP_S)  # as of every operation that has ended
        pipe.execute()


def _copy_hash(
    pipe: "Pipeline", key: str, content: Mapping[str, str], names: Mapping[str, str], *, is_new: bool
) -> None:
    fields = {_replaced(field, names): _replaced(text, names) for field, text in content.items()}
    more = fields if is_new else {field: text for field, text in fields.items() if field not in content}
    for field, text in more.items():
        pipe.hset(key, field, text)


def _host_bytes() -> dict[int, float]:
    found: dict[int, float] = {}
    with _open_fleet() as fleet:
        fleet.client.flushdb()
        empty, written, each = _bytes(fleet.client), 0, _inventory()
        for count in COUNTS:
            for number in range(written, count):
                name = HostName(f"kvm{number:06}")
                fleet.store.hosts.write_inventory(name, each)
                fleet.store.hosts.note_alive(name, "0" * 32, keep_s=3600)
                fleet.store.hosts.note_taking(name, "0" * 32, keep_s=3600)
                fleet.store.hosts.note_listening(name, hears=True, keep_s=3600)
                fleet.store.hosts.note_power_synced(name, 1.0)
            written = count
            found[count] = (_bytes(fleet.client) - empty) / count
    return found


def _inventory() -> Inventory:
    return replace(inventory(), physical_networks=("physnet1", "physnet2"), tunnel_address="192.0.2.1")


def _bytes(client: "redis.Redis") -> int:
    """Of all keys, with all that they hold."""
    with client.pipeline(transaction=False) as pipe:
        for key in client.scan_iter("*", count=1000):
            pipe.memory_usage(str(key), samples=0)
        return sum(size or 0 for size in pipe.execute())


def _audit(fleet: Fleet) -> tuple[float, float]:
    survey, now, host = Survey(fleet.client, KEYS), fleet.clock.now(), fleet.hosts[H1]
    model = fleet.instance("guest-000000")
    one = msgspec.json.encode(host_seen(host.ports, now, (model,))).decode()
    looks = [
        msgspec.json.decode(_replaced(one, _other_names(model, number)) if number else one, type=HostSeen)
        for number in range(AUDITED)
    ]
    records, seen = survey.read(now), {H1: _together(looks)}
    if found := findings_for(records, seen, records, now):
        raise RuntimeError(f"the audit of a sound fleet found {found[0]}, and {len(found) - 1} more")
    judge_s = _median(lambda: findings_for(records, seen, records, now))
    return _median(lambda: survey.read(now)), judge_s


def _together(looks: list[HostSeen]) -> HostSeen:
    """One host that has what each of them saw."""
    return replace(
        looks[0],
        domains=tuple(one for look in looks for one in look.domains),
        directories=tuple(one for look in looks for one in look.directories),
        links=tuple(one for look in looks for one in look.links),
        dhcp=tuple(one for look in looks for one in look.dhcp),
    )


def _fill(fleet: Fleet, count: int) -> None:
    """So many instances in all: copies of one that was built, under names and ids of their own."""
    catalog = fleet.store.catalog
    model, more = catalog.list_instances()[0], count - len(catalog.list_instances())
    with fleet.client.pipeline(transaction=False) as pipe:
        for number in range(count - more, count):
            copy_id = InstanceId(instance_id_for(OperationId(f"copy-{number}")))
            copy = replace(model, id=copy_id, name=f"copy-{number:06}")
            pipe.set(KEYS.instance(copy.id), encode(copy))
            pipe.sadd(KEYS.instances, copy.id)
            pipe.hset(KEYS.names, copy.name, copy.id)
        pipe.execute()


def _run(fleet: Fleet, *words: str) -> None:
    url = str(fleet.client.connection_pool.connection_kwargs["path"])
    environment = {"TASKVISOR_REDIS_URL": f"unix://{url}?db=0", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment, timeout=300)


def _median(measured: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        measured()
        taken.append(time.perf_counter() - began)
    return p50(taken)


if __name__ == "__main__":
    print(table_of_records(measure_records()))
    progress("done")
