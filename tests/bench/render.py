"""`python -m tests.bench.render`: what it costs to decide and to render one domain, to find drift, and how much is covered.

Each kind of guest is measured in a process of its own, so that its peak of memory is its own too. Nothing is touched. Times
are of the CPU: on a machine that does other things too, a clock on the wall would measure those.
"""

import contextlib
import json
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import libvirt

from taskvisor.model.ids import OperationId, instance_id_for
from taskvisor.model.plan import DiskStorage, VolumePlan
from taskvisor.model.records import Instance
from tests.bench.report import Row, p50, percentile, progress, table
from tests.virt.domain.test_coverage import CASES, every_field, unshown
from tests.virt.sample_guests import INSTANCE, Q35_KVM_HOST, port_of, vif_of
from tests.virt.test_policy_options import WISHES
from virt.definition import parse_definition
from virt.domain import render
from virt.domain.domain import DomainConfig
from virt.drift import differences_for
from virt.layout import disk_layout_for
from virt.lookup import list_definitions
from virt.options.option import Option
from virt.options.table import NOT_OFFERED, THEMES
from virt.policy import HostChoices, domain_config_for, machine_for

ROUNDS = 500
CROWD = 100
LISTS = 2
"""Of domains that are defined and of those that only run. Each then has its XML asked for, one that runs twice."""
TURN_LIMIT_S = 600.0
VOLUMES = tuple(
    VolumePlan(serial=f"v{number}", path=f"/dev/mapper/v{number}", storage=DiskStorage.BLOCK) for number in range(8)
)
FULL_SPECS = {
    "hw:cpu_sockets": "2",
    "hw:cpu_threads": "2",
    "hw:cpu_model": "EPYC",
    "hw:cpu_flags": "+pcid,-vmx",
    "hw:maxphysaddr_mode": "emulate",
    "hw:maxphysaddr_bits": "42",
    "hw:pmu": "no",
    "hw:mem_access": "shared",
    "hw:watchdog_action": "reset",
    "hw:serial_port_count": "4",
    "hw:tpm_version": "2.0",
    "hw:tpm_model": "tpm-crb",
    "hw:vsock": "yes",
    "hw:viommu_model": "intel",
    "hw:virtio_packed_ring": "yes",
    "hw_rng:rate_bytes": "512",
    "os:secure_boot": "required",
    "quota:cpu_shares": "512",
    "quota:cpu_period": "10000",
    "quota:cpu_quota": "5000",
    "quota:disk_read_iops_sec": "9",
    "quota:disk_write_bytes_sec": "9000000",
    "quota:vif_inbound_average": "9",
    "quota:vif_inbound_peak": "10",
    "quota:vif_outbound_average": "9",
}
FULL_PROPERTIES = {
    "hw_firmware_type": "uefi",
    "hw_boot_menu": "yes",
    "hw_disk_bus": "scsi",
    "hw_pointer_model": "usbtablet",
    "hw_time_hpet": "yes",
    "hw_video_model": "qxl",
    "hw_qemu_guest_agent": "yes",
    "os_type": "windows",
}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One kind of guest. `work_kib` is the most that deciding and rendering had allocated at once; `peak_mib` the process's."""

    decide_s: Sequence[float]
    render_s: Sequence[float]
    compare_s: Sequence[float]
    work_kib: float
    peak_mib: float
    xml_bytes: int
    facts: int


@dataclass(frozen=True, kw_only=True)
class Look:
    """A host's look at the definitions of all its guests, and what each should be. `calls`: to libvirt."""

    guests: int
    ask_s: float
    compare_s: float
    calls: int


def plain() -> tuple[Instance, tuple[VolumePlan, ...]]:
    """Two NICs, an image, a seed, and no wishes."""
    return INSTANCE, ()


def fullest() -> tuple[Instance, tuple[VolumePlan, ...]]:
    """All that one guest can have at once: eight NICs, swap, ephemeral disk, eight volumes, sixty-four entries."""
    flavor = replace(INSTANCE.flavor, vcpus=16, swap_mib=64, ephemeral_gib=1, extra_specs=FULL_SPECS)
    ports = tuple(port_of(INSTANCE.id, index) for index in range(8))
    metadata = {f"key-{number}": "value " * 10 for number in range(64)}
    full = replace(INSTANCE, flavor=flavor, ports=ports, metadata=metadata, image_properties=FULL_PROPERTIES)
    return full, VOLUMES


GUESTS: Mapping[str, Callable[[], tuple[Instance, tuple[VolumePlan, ...]]]] = {"plain": plain, "fullest": fullest}


def main() -> int:
    """0 when all was measured, whatever came out."""
    from tests.bench.__main__ import load_and_yardstick  # not for a turn's process: its memory is measured

    print(load_and_yardstick("at the start"))
    for what in GUESTS:
        progress(f"the {what} guest, {ROUNDS} times")
        print(_table(what, Turn(**_said(what))))
    progress(f"{CROWD} guests on libvirt's test driver")
    print(_table_of_look(Look(**_said("look"))))
    print(_table_of_coverage())
    print(load_and_yardstick("at the end"))
    return 0


def _table(what: str, turn: Turn) -> str:
    rows = [
        *_times("decide (layout, options, policy)", turn.decide_s),
        *_times("render to XML", turn.render_s),
        *_times("read back and find no drift", turn.compare_s),
        Row(what="most allocated at once, to decide and render", value=f"{turn.work_kib:.0f} KiB"),
        Row(what="peak of the process (Python, lxml, all modules)", value=f"{turn.peak_mib:.0f} MiB"),
    ]
    return table(f"The {what} guest: {turn.xml_bytes} bytes of XML, {turn.facts} facts; {ROUNDS} times", rows)


def _times(what: str, times_s: Sequence[float]) -> tuple[Row, Row]:
    return (
        Row(what=f"{what}, p50", value=f"{p50(times_s) * 1000:.2f} ms"),
        Row(what=f"{what}, p95", value=f"{percentile(times_s, 95) * 1000:.2f} ms"),
    )


def _table_of_coverage() -> str:
    kinds = every_field()
    fields, missing = sum(map(len, kinds.values())), unshown(CASES)
    options = [option for theme in THEMES.values() for option in theme]
    asked = {key for specs, properties, _ in WISHES for key in (*specs, *properties)}
    seen = [option for option in options if _keys(option) & asked]
    rows = [
        Row(what="classes of the domain's definition", value=str(len(kinds))),
        Row(what="fields shown by golden cases", value=f"{fields - len(missing)} of {fields}"),
        Row(what="golden cases", value=str(len(CASES))),
        Row(
            what="options in the table of wishes that a test sees in the domain", value=f"{len(seen)} of {len(options)}"
        ),
        Row(what="keys that flavors and images may have", value=str(sum(len(_keys(option)) for option in options))),
        Row(what="keys of Nova's that are refused, each with what to do instead", value=str(len(NOT_OFFERED))),
    ]
    unseen = ", ".join(sorted(option.field for option in options if option not in seen)) or "none"
    return table("Coverage", rows) + f"  not in that table: {unseen}\n"


def _keys(option: Option) -> frozenset[str]:
    return frozenset(key for key in (option.flavor_key, option.image_key) if key is not None)


def _said(what: str) -> dict[str, Any]:
    """What a process of its own has measured."""
    argv = [sys.executable, "-m", "tests.bench.render", what]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TURN_LIMIT_S, check=True)
    return dict(json.loads(done.stdout))


def _table_of_look(look: Look) -> str:
    rows = [
        Row(what="ask libvirt for all definitions", value=f"{look.ask_s * 1000:.0f} ms"),
        Row(what="  calls", value=str(look.calls)),
        Row(what="render, read and compare each", value=f"{look.compare_s * 1000:.0f} ms"),
        Row(what="  for each guest", value=f"{look.compare_s * 1000 / look.guests:.2f} ms"),
    ]
    return table(f"A look for drift at {look.guests} guests that are off, on libvirt's test driver", rows)


def _one_look() -> None:
    """In a process of its own, which makes libvirt's test driver a host of its own too."""
    with contextlib.closing(libvirt.open("test:///default")) as connection:
        connection.listAllDomains()[0].destroy()  # the one that the driver begins with
        connection.listAllDomains()[0].undefine()
        guests = {}
        for number in range(CROWD):
            guest = replace(INSTANCE, id=instance_id_for(OperationId(f"crowd-{number}")))
            guests[guest.id] = guest
            connection.defineXML(_as_test(render(_config(guest, ()))))
        began = time.thread_time()
        found = list_definitions(connection)
        asked = time.thread_time()
        for one in found:
            wanted = parse_definition(_as_test(render(_config(guests[one.instance_id], ()))))
            if differences_for(wanted, parse_definition(str(one.persistent_xml)), None):
                raise RuntimeError("a guest that was only defined has drifted")
        look = Look(
            guests=len(found),
            ask_s=asked - began,
            compare_s=time.thread_time() - asked,
            calls=LISTS + len(found),
        )
    print(json.dumps(asdict(look)))


def _as_test(xml: str) -> str:
    return re.sub(r'^<domain type="\w+"', '<domain type="test"', xml, count=1)


def _one_turn(what: str) -> None:
    """In a process of its own: what it measures it prints, as JSON."""
    instance, volumes = GUESTS[what]()
    decide_s, render_s, compare_s = [], [], []
    xml = ""
    for _ in range(ROUNDS):
        began = time.thread_time()
        config = _config(instance, volumes)
        decided = time.thread_time()
        xml = render(config)
        rendered = time.thread_time()
        definition = parse_definition(xml)
        if differences_for(definition, parse_definition(xml), None):
            raise RuntimeError("a definition differs from itself")
        decide_s.append(decided - began)
        render_s.append(rendered - decided)
        compare_s.append(time.thread_time() - rendered)
    peak_kib = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    tracemalloc.start()
    render(_config(instance, volumes))
    turn = Turn(
        decide_s=decide_s,
        render_s=render_s,
        compare_s=compare_s,
        work_kib=tracemalloc.get_traced_memory()[1] / 1024,
        peak_mib=int(peak_kib[1]) / 1024 if peak_kib else 0.0,
        xml_bytes=len(xml.encode()),
        facts=len(parse_definition(xml).facts),
    )
    print(json.dumps(asdict(turn)))


def _config(instance: Instance, volumes: tuple[VolumePlan, ...]) -> DomainConfig:
    host = Q35_KVM_HOST
    layout = disk_layout_for(instance, instances_dir="/srv", machine=machine_for(instance, host), volumes=volumes)
    return domain_config_for(instance, layout, [vif_of(port) for port in instance.ports], host, choices=HostChoices())


if __name__ == "__main__":
    if sys.argv[1:] == ["look"]:
        _one_look()
    elif len(sys.argv) > 1:
        _one_turn(sys.argv[1])
    else:
        sys.exit(main())
