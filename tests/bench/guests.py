"""Part A: a build of a real guest, from the request to libvirt saying that it runs, in turns with the same work by hand.

One guest that is off stays on the host throughout: it keeps the network's bridge and DHCP server, which the bare script
does not make. Every guest is removed, outside the time taken, before the next one is made.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from taskvisor.model.operation import Operation
from tests.bench.by_hand import HandBuilder, Template
from tests.bench.cost import Memory, memory_of, total_of
from tests.bench.host import BenchHost, NotMeasured, running_host
from tests.bench.producer import Producer
from tests.bench.report import p50, progress
from tests.fixtures.machine import ROOT, run_or_fail
from tests.fixtures.namespaces import end_process, entered_namespace, open_namespace, processes_in

ROUNDS = 15
GUEST_IMAGE = ROOT / ".cache" / "guest" / "guest.qcow2"
LIBVIRTD = ROOT / "scripts" / "libvirtd.sh"
LIBVIRTD_LIMIT_S = 180.0
FLAVOR = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}


@dataclass(frozen=True, kw_only=True)
class GuestTimes:
    """Seconds of each build, and the median of each part of it; what is between the steps is the rest of a build."""

    virt_type: str
    builds_s: tuple[float, ...]
    by_hand_s: tuple[float, ...]
    steps_s: Mapping[str, float]
    parts_s: Mapping[str, float]
    memory: Memory
    """Of the set, afterwards."""


def measure_guests() -> GuestTimes:
    """NotMeasured when a guest does not come to be; then, too, nothing is left."""
    if not GUEST_IMAGE.exists():
        raise NotMeasured(f"{GUEST_IMAGE} is not there; run `make guest`")
    progress("A: libvirtd, Redis and a host in a network namespace")
    with ExitStack() as opened:
        opened.enter_context(_own_network())
        uri = opened.enter_context(_running_libvirtd())
        host = opened.enter_context(running_host("libvirt", libvirt_uri=uri))
        producer = opened.enter_context(closing(Producer(host.settings.redis_url)))
        guests = _Guests(host, producer)
        progress("A: the first guest, and one build each to warm up")
        by_hand = opened.enter_context(closing(HandBuilder(uri, guests.keep_one())))
        return _in_turns(guests, by_hand)


def _in_turns(guests: "_Guests", by_hand: HandBuilder) -> GuestTimes:
    builds, hand_made, operations, parts = [], [], [], []
    for turn in range(ROUNDS + 1):
        build_s, operation = guests.build()
        made = by_hand.build()
        by_hand.remove(made)
        if turn == 0:
            continue  # warms up
        progress(f"A: {turn} of {ROUNDS}")
        builds.append(build_s)
        operations.append(operation)
        hand_made.append(sum(made.parts_s.values()))
        parts.append(made.parts_s)
    return GuestTimes(
        virt_type=operations[0].facts["render_xml"]["virt_type"],
        builds_s=tuple(builds),
        by_hand_s=tuple(hand_made),
        steps_s=_medians([_steps_of(operation) for operation in operations]),
        parts_s=_medians(parts),
        memory=guests.memory(),
    )


class _Guests:
    """Guests by way of Taskvisor."""

    def __init__(self, host: BenchHost, producer: Producer) -> None:
        self._host = host
        self._producer = producer

    def build(self) -> tuple[float, Operation]:
        """Seconds of a build, and its journal; the guest is gone again."""
        name = f"bench-{uuid4().hex[:8]}"
        took_s = self._ask("instance.build", name=name, image=str(GUEST_IMAGE), flavor=FLAVOR)
        operation = self._host.catalog.list_operations(1)[0]
        self._ask("instance.delete", instance=name)
        return took_s, operation

    def keep_one(self) -> Template:
        """A guest that is off: its links stay."""
        self._ask("instance.build", name="kept", image=str(GUEST_IMAGE), flavor=FLAVOR)
        operation = self._host.catalog.list_operations(1)[0]
        self._ask("instance.stop", instance="kept", timeout_s=0)
        return Template.of(operation)

    def memory(self) -> Memory:
        """Of the host's whole set of processes; none of them is a guest's."""
        return total_of(memory_of(self._host.processes()).values())

    def _ask(self, task: str, **fields: Any) -> float:
        return self._producer.run(task, [fields]).latencies_s[0]


@contextmanager
def _own_network() -> Iterator[None]:
    """The bench, and all that it starts, is in a network namespace, which is empty and gone at the end."""
    with open_namespace(f"tvb-{os.getpid()}") as namespace:
        try:
            with entered_namespace(namespace):
                yield
        finally:
            for pid in processes_in(namespace):  # the DHCP server of the guest that was kept
                end_process(pid)


@contextmanager
def _running_libvirtd() -> Iterator[str]:
    """Its URI. It and its guests are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="tvb-v") as directory:
        cache = ROOT / ".cache" / "libvirt"
        try:
            said = run_or_fail([LIBVIRTD, "start", directory, "--cache", cache], limit_s=LIBVIRTD_LIMIT_S)
            yield dict(line.partition("=")[::2] for line in said.splitlines())["URI"]
        finally:
            run_or_fail([LIBVIRTD, "stop", directory, "--guests"], limit_s=LIBVIRTD_LIMIT_S)


def _steps_of(operation: Operation) -> Mapping[str, float]:
    return {entry.step: entry.ended_at - entry.started_at for entry in operation.timeline}


def _medians(many: list[Mapping[str, float]]) -> Mapping[str, float]:
    return {name: p50([one[name] for one in many]) for name in many[0]}
