"""`python -m tests.bench`: measures, and prints a table for each part. See `make bench`."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from taskvisor.model.states import VirtType
from tests.bench.control_plane import CROWD, IN_FLIGHT, WARM_UP, WATCHED, ControlPlane, measure_control_plane
from tests.bench.cost import total_of
from tests.bench.guests import ROUNDS, GuestTimes, measure_guests
from tests.bench.host import NotMeasured
from tests.bench.placement import measure_placements, table_of_placements
from tests.bench.records import measure_records, table_of_records
from tests.bench.report import Row, milliseconds, p50, percentile, progress, table
from tests.bench.ticks import measure_ticks, table_of_ticks

YARDSTICK_TURNS = 2_000_000

RATIO_AIM, MORE_AIM_S = 1.25, 0.150
ALONE_AIM_S, PER_S_AIM, CPU_AIM_S, MEMORY_AIM_MIB, CROWD_AIM = 0.060, 40.0, 0.05, 300.0, 1.2

ABOUT_NOVA = (
    "Nova is Zed, measured on a machine like this one: its fake driver for B, QEMU and one port for A (0.38 s by hand)."
)


def main() -> int:
    """0 when all was measured, whatever came out; 1 with a sentence when it could not be."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if os.geteuid() != 0:
        print("bench: must be run as root: it makes a network namespace, links and guests", file=sys.stderr)
        return 1
    try:
        print(facts_of_this_machine())
        print(table_of_guests(measure_guests()), flush=True)
        measured = measure_control_plane()
        print(table_of_control_plane(measured))
        print(table_of_traffic(measured))
        print(table_of_ticks(measure_ticks()))
        print(table_of_placements(measure_placements()), flush=True)
        print(table_of_records(measure_records()), flush=True)
    except (NotMeasured, pytest.fail.Exception) as problem:  # fixtures speak pytest
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped on request; nothing is left", file=sys.stderr)
        return 130
    print(f"{ABOUT_NOVA}\n{load_and_yardstick('at the end')}")
    progress("done")
    return 0


def table_of_guests(times: GuestTimes) -> str:
    build_s, by_hand_s = p50(times.builds_s), p50(times.by_hand_s)
    ratio, more_s = build_s / by_hand_s, build_s - by_hand_s
    between_s = build_s - sum(times.steps_s.values())
    rows = [
        Row(what="build, p50", value=milliseconds(build_s), other="Nova 3750 ms"),
        Row(what="the same by hand, p50", value=milliseconds(by_hand_s)),
        Row(what="ratio", value=f"{ratio:.2f}", aim=f"at most {RATIO_AIM}", met=ratio <= RATIO_AIM, other="Nova 9.9"),
        Row(
            what="difference",
            value=milliseconds(more_s),
            aim=f"at most {milliseconds(MORE_AIM_S)}",
            met=more_s <= MORE_AIM_S,
        ),
        *(Row(what=f"  step {name}", value=milliseconds(part_s)) for name, part_s in times.steps_s.items()),
        Row(what="  request, between the steps, answer", value=milliseconds(between_s)),
        *(Row(what=f"  by hand: {name}", value=milliseconds(part_s)) for name, part_s in times.parts_s.items()),
        Row(
            what=f"resident memory of all {times.memory.processes} processes of Taskvisor (PSS)",
            value=f"{times.memory.pss_mib:.0f} MiB",
        ),
    ]
    emulated = " without KVM" if times.virt_type == VirtType.QEMU else ""
    return table(f"A. A guest with libvirt and QEMU{emulated}, image in the cache; {ROUNDS} of each, in turns", rows)


def table_of_control_plane(measured: ControlPlane) -> str:
    alone_s, cpu_s = p50(measured.alone.latencies_s), sum(measured.cpu_s.values())
    full_s, new_s = p50(measured.on_full.latencies_s), p50(measured.on_new.latencies_s)
    rows = [
        Row(
            what="one at a time, p50",
            value=milliseconds(alone_s),
            aim=f"at most {milliseconds(ALONE_AIM_S)}",
            met=alone_s <= ALONE_AIM_S,
            other="Nova 620 ms",
        ),
        Row(what="one at a time, p95", value=milliseconds(percentile(measured.alone.latencies_s, 95))),
        Row(
            what=f"{IN_FLIGHT} in flight",
            value=f"{measured.together.per_s:.1f} builds/s",
            aim=f"at least {PER_S_AIM:g}",
            met=measured.together.per_s >= PER_S_AIM,
            other="Nova 1.06 builds/s",
        ),
        Row(what=f"{IN_FLIGHT} in flight, p50", value=milliseconds(p50(measured.together.latencies_s))),
        Row(what=f"{IN_FLIGHT} in flight, p95", value=milliseconds(percentile(measured.together.latencies_s, 95))),
        Row(what=f"{IN_FLIGHT} in flight, cores that it got", value=f"{cpu_s * measured.together.per_s:.2f}"),
        Row(what=f"with {CROWD} instances on the host, p50", value=milliseconds(full_s)),
        Row(what=f"with {WARM_UP} instances, in turns with it, p50", value=milliseconds(new_s)),
        Row(
            what=f"{CROWD} to {WARM_UP}",
            value=f"{full_s / new_s:.2f}",
            aim=f"at most {CROWD_AIM}",
            met=full_s / new_s <= CROWD_AIM,
        ),
        *_costs(measured),
    ]
    processes = f"{measured.step_processes} step and {measured.control_processes} control processes"
    return table(f"B. The control plane alone: simulated driver, Redis, both nodes, beat; {processes}", rows)


def _costs(measured: ControlPlane) -> Sequence[Row]:
    cpu_s, memory = sum(measured.cpu_s.values()), total_of(measured.memory.values())
    return (
        Row(
            what="CPU per build, all processes",
            value=f"{cpu_s:.3f} s",
            aim=f"at most {CPU_AIM_S} s",
            met=cpu_s <= CPU_AIM_S,
            other="Nova 1.28 s",
        ),
        *(Row(what=f"  {name}", value=f"{some_s:.3f} s") for name, some_s in measured.cpu_s.items()),
        Row(
            what=f"resident memory of all {memory.processes} processes (PSS)",
            value=f"{memory.pss_mib:.0f} MiB",
            aim=f"at most {MEMORY_AIM_MIB:.0f} MiB",
            met=memory.pss_mib <= MEMORY_AIM_MIB,
            other="Nova 2560 MiB",
        ),
        *(
            Row(what=f"  {name}, {some.processes} processes", value=f"{some.pss_mib:.0f} MiB")
            for name, some in measured.memory.items()
        ),
        Row(what="  with pages that processes share counted for each (RSS)", value=f"{memory.rss_mib:.0f} MiB"),
    )


def table_of_traffic(measured: ControlPlane) -> str:
    traffic = measured.traffic
    named = {
        **{f"store: {what}": number for what, number in traffic.store.items()},
        **{f"transport: messages {what}": number for what, number in traffic.transport.items()},
        "events for watchers (Flower) published": traffic.events,
        **{f"other: {what}": number for what, number in traffic.other.items() if number >= WATCHED},
        "round trips in all, the producer's too": traffic.round_trips,
    }
    rows = [Row(what=what, value=f"{number / WATCHED:.1f}") for what, number in named.items()]
    return table("C. Commands to Redis per build (what a script does inside Redis is none)", rows)


def facts_of_this_machine() -> str:
    """What the figures hang on."""
    releases = ", ".join(f"{package} {version(package)}" for package in ("celery", "kombu", "redis", "libvirt-python"))
    programs = ", ".join(_first_line(name) for name in ("redis-server", "libvirtd", "qemu-system-x86_64"))
    return "\n".join(
        (
            f"{os.cpu_count()} cores ({_cpu_model()}), Linux {platform.release()}",
            f"Python {platform.python_version()}, {releases}",
            programs,
            load_and_yardstick("at the start"),
            "",
        )
    )


def _stop(_number: int, _frame: object) -> None:
    """Whoever asks again waits: what puts things away is not cut off."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def load_and_yardstick(when: str) -> str:
    """How busy the machine is with other things, and how fast it is now: to compare runs by."""
    began = time.perf_counter()
    for _ in range(YARDSTICK_TURNS):
        pass
    took_s = time.perf_counter() - began
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    turns = f"{YARDSTICK_TURNS // 1_000_000} million turns of an empty loop in {milliseconds(took_s)}"
    return f"{when}: load {load}; {turns}"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _first_line(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    return said.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
