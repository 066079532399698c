"""`python -m workers.preflight [table|json|problems]`: whether this machine can be a host. Exit code 1 if it can't.

Each check runs in a process of its own, all at the same time, and is ended when its time is up: one that hangs, or dies, is a
row that says so, and hinders no other. Looks and tries; leaves nothing behind.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

import msgspec
import structlog

from net.preflight import list_problems as list_net_problems
from taskvisor.compute.resources.registry import UnknownKind
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.preflight import CheckRow, Verdict, row_of_problem
from taskvisor.settings import Settings, read_settings
from virt.events import LifecycleEvents
from virt.hypervisor import LibvirtHypervisor
from virt.preflight import list_problems as list_virt_problems
from virt.seeds.vendor_data import VendorDataFile
from virt.stores.opening import open_pool
from workers.adapters import store_options_of
from workers.choices import host_links_of, open_table_of, placement_rules_of, vendor_data_path_of
from workers.logs import configure_logs
from workers.machine_checks import disk_rows, kvm_rows, limit_rows, module_rows
from workers.store_checks import clock_rows, identity_rows, latency_rows, redis_rows

log = structlog.get_logger(__name__)

CHECK_LIMIT_S = 50.0
"""A libvirtd that hangs is given up within half a minute, a Redis that hangs within seconds."""
END_LIMIT_S = 5.0

Check = Callable[[Settings], Iterable[CheckRow]]


def list_rows(settings: Settings) -> tuple[CheckRow, ...]:
    """What every check says, in the order of the checks. Takes CHECK_LIMIT_S at most, and a little."""
    running = [(name, *_started(name, check, settings)) for name, check in _checks_for(settings).items()]
    deadline = time.monotonic() + CHECK_LIMIT_S
    return tuple(row for name, process, told in running for row in _rows_from(name, process, told, deadline))


def list_problems(settings: Settings) -> Iterator[str]:
    """Each thing that would keep a guest from being built here, and what to do about it."""
    return (row.sentence for row in list_rows(settings) if row.verdict is Verdict.PROBLEM)


def _checks_for(settings: Settings) -> Mapping[str, Check]:
    checks: dict[str, Check] = {
        "redis": redis_rows,
        "redis latency": latency_rows,
        "clock": clock_rows,
        "identity": identity_rows,
        "state directory": disk_rows,
        "limits": limit_rows,
        "plug-ins": _plugin_rows,
    }
    if settings.driver == "simulated":
        return checks
    return {
        **checks,
        "kvm": kvm_rows,
        "libvirt": _libvirt_rows,
        "disks": _disks_rows,
        "kernel modules": module_rows,
        "network": _network_rows,
        "vendor data": _vendor_data_rows,
    }


def _started(name: str, check: Check, settings: Settings) -> tuple[ForkProcess, Connection]:
    context = multiprocessing.get_context("fork")
    told, tells = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(name, check, settings, tells), daemon=True)
    process.start()
    tells.close()  # ours: the end of the child's is then the end of the pipe
    return process, told


def _run(name: str, check: Check, settings: Settings, tells: Connection) -> None:
    """In the check's own process."""
    try:
        rows = tuple(check(settings))
    except TaskvisorError as problem:
        rows = (row_of_problem(name, str(problem)),)
    except OSError as error:
        rows = (row_of_problem(name, f"it can't be looked at ({error}); run it as the worker's user"),)
    tells.send(rows)


def _rows_from(name: str, process: ForkProcess, told: Connection, deadline: float) -> tuple[CheckRow, ...]:
    try:
        if told.poll(max(0.0, deadline - time.monotonic())):
            rows: tuple[CheckRow, ...] = told.recv()
            return rows
        return (row_of_problem(name, f"no answer within {CHECK_LIMIT_S:g} s; what it asks for hangs"),)
    except EOFError:
        return (row_of_problem(name, "its check died; what it said is above, please report it"),)
    finally:
        told.close()
        process.kill()
        process.join(END_LIMIT_S)


def _libvirt_rows(settings: Settings) -> Iterator[CheckRow]:
    """One sentence at most, also when libvirtd hangs: what it does not answer once it will not twice."""
    hypervisor = LibvirtHypervisor(settings.libvirt_uri, virt_type=settings.virt_type)
    events = LifecycleEvents(settings.libvirt_uri)
    try:
        facts = hypervisor.read_facts()
        events.ensure_listening()
    except TaskvisorError as problem:
        yield row_of_problem("libvirt", f"libvirt at {settings.libvirt_uri}: {problem}")
        return
    finally:
        events.close()
        hypervisor.close()
    yield CheckRow(check="libvirt", found=f"{settings.libvirt_uri} answers, and tells of its guests")
    version, emulator = facts.hypervisor_version, facts.emulator
    yield CheckRow(
        check="qemu", found=f"{version}: {emulator}, {facts.virt_type.value} on {facts.arch}, {facts.machine}"
    )


def _plugin_rows(settings: Settings) -> Iterator[CheckRow]:
    """Kinds of resources and rules of placement, also those of others."""
    try:
        open_table_of(settings)
        placement_rules_of(settings)
    except (UnknownKind, Refused) as refusal:
        yield row_of_problem("plug-ins", str(refusal))
        return
    yield CheckRow(check="plug-ins", found="all that the settings name can be had")


def _disks_rows(settings: Settings) -> Iterator[CheckRow]:
    """What disks and images are made with, and where."""
    stores = store_options_of(settings)
    yield from _or_fine(
        "disks", list_virt_problems(settings.state_dir), "programs are there, the directory can be written"
    )
    if stores.backend.pool:
        problems = open_pool(stores.backend, stores, settings.state_dir / "instances").list_problems()
        yield from _or_fine("disks", problems, f"{stores.backend.kind.value} in {stores.backend.pool} can be used")


def _network_rows(settings: Settings) -> Iterator[CheckRow]:
    problems = list_net_problems(settings.state_dir, host_links_of(settings))
    yield from _or_fine("network", problems, "TAPs, filters and DHCP can be made")


def _vendor_data_rows(settings: Settings) -> Iterator[CheckRow]:
    path = vendor_data_path_of(settings)
    VendorDataFile(path).read()
    yield CheckRow(check="vendor data", found="none" if path is None else f"{path} can be read")


def _or_fine(check: str, problems: Iterable[str], fine: str) -> Iterator[CheckRow]:
    rows = tuple(row_of_problem(check, sentence) for sentence in problems)
    yield from rows or (CheckRow(check=check, found=fine),)


def table_of(rows: Iterable[CheckRow]) -> str:
    """The rows as lines of columns, for a terminal or a log."""
    cells = [("CHECK", "VERDICT", "WHAT IS", "WHAT TO DO")]
    cells += [(row.check, row.verdict.value, row.found, row.advice or "-") for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(2)]
    return "\n".join(
        f"{check:{widths[0]}}  {verdict:{widths[1]}}  {found}{'' if advice == '-' else f' -> {advice}'}"
        for check, verdict, found, advice in cells
    )


def main() -> int:
    """Prints in the form that is asked for."""
    form = sys.argv[1] if len(sys.argv) > 1 else "table"
    forms: dict[str, Callable[[tuple[CheckRow, ...]], str]] = {
        "table": table_of,
        "json": lambda rows: msgspec.json.encode(rows).decode(),
        "problems": lambda rows: "\n".join(row.sentence for row in rows if row.verdict is Verdict.PROBLEM),
    }
    if form not in forms:
        sys.exit(f"python -m workers.preflight: {form!r} is not one of {', '.join(forms)}")
    settings = read_settings()
    configure_logs(settings)
    rows = list_rows(settings)
    if said := forms[form](rows):
        print(said)
    for row in rows:
        if form == "problems" and row.verdict is Verdict.WARNING:
            log.warning("machine_flawed", check=row.check, reason=row.sentence)
    return 1 if any(row.verdict is Verdict.PROBLEM for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
